package httpapi

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/rs/zerolog"
	"golang.org/x/sync/semaphore"

	"github.com/msgbusd/msgbusd/httpapi/transfer"
	"github.com/msgbusd/msgbusd/msgbus"
)

// A Relay takes what arrives. Each error is a *msgbus.Refusal when the message
// is at fault, and otherwise tells of the storage.
type Relay interface {
	AcceptRequest(ctx context.Context, m *msgbus.Message) error
	AcceptReply(ctx context.Context, m *msgbus.Message) error
	// AcceptCommand returns the queue in which the answer will be.
	AcceptCommand(ctx context.Context, m *msgbus.Message) (queue string, err error)
	// AcceptTransfer tells for each message what became of it: nil when it was
	// accepted, a *msgbus.Deferral when it may be later. Its own error is that of
	// all: msgbus.ErrRepeated when the transfer was accepted before.
	AcceptTransfer(ctx context.Context, t *msgbus.Transfer) ([]error, error)
}

// Results are the answers to commands.
type Results interface {
	// Results returns msgbus.ErrNotFound for a queue that no command was given.
	Results(ctx context.Context, queue string) (source uint32, messages []string, err error)
}

// A Verifier knows the keys of all twins. Its errors are *msgbus.Refusal:
// BadSignature, TwinNotFound, ResolverUnavailable when it cannot know now,
// TooManyLookups when it may not ask now, or KeyUncertain when it may not ask
// again now whether the twin has a new key.
type Verifier interface {
	Verify(ctx context.Context, twin uint32, challenge, signature []byte) error
}

// A Policy says with which twins this relay deals. It is asked before anything is
// looked up for a message, and so of twins that nobody may know.
type Policy interface {
	AdmitsTwin(twin uint32) bool
}

type everybody struct{}

func (everybody) AdmitsTwin(uint32) bool { return true }

// A Signer has this twin's key.
type Signer interface {
	// Sign returns the type byte and 64 bytes of signature.
	Sign(challenge []byte) []byte
}

// ServerOptions are the settings of a Server; each zero value stands for its
// default.
type ServerOptions struct {
	Twin        uint32           // the twin that this relay serves
	MaxBody     int64            // bytes of a body; default 4 MiB
	MaxInFlight int64            // bytes of large bodies at once, no less than LeastInFlight; default 64 MiB
	MaxWaits    int              // long polls at once for one address, or one /64 of IPv6; default 8
	MaxAllWaits int              // long polls at once in all; default 256
	LongestWait time.Duration    // of a long poll; default 30 s
	Policy      Policy           // with whom to deal; default everybody
	Stop        <-chan struct{}  // closed when long polls are to end; may be nil
	Now         func() time.Time // the clock that `now` is held against; default time.Now
	Log         zerolog.Logger

	Limits // at first; SetLimits changes them

	RequireV2         bool              // take nothing that is signed as in version 1
	RequireEncryption bool              // take no transfer that is not sealed
	Opener            Opener            // of sealed transfers; without one none are taken
	Greeted           func(twin uint32) // called when a twin has shown that it speaks version 2; may be nil
	Observer          Observer          // is told what becomes of messages; may be nil
}

// A Server is the public side of a relay.
type Server struct {
	opts     ServerOptions
	relay    Relay
	results  Results
	verifier Verifier
	signer   Signer
	inFlight *semaphore.Weighted
	waits    waits
	log      zerolog.Logger // of what strangers cause

	limits    *limits
	forgeries *forgeries
	used      *used
}

// NewServer returns a Server.
func NewServer(opts ServerOptions, relay Relay, results Results, verifier Verifier, signer Signer) *Server {
	if opts.MaxBody == 0 {
		opts.MaxBody = 4 << 20
	}
	if opts.MaxInFlight == 0 {
		opts.MaxInFlight = 64 << 20
	}
	if opts.MaxWaits == 0 {
		opts.MaxWaits = 8
	}
	if opts.MaxAllWaits == 0 {
		opts.MaxAllWaits = 256
	}
	if opts.LongestWait == 0 {
		opts.LongestWait = 30 * time.Second
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Policy == nil {
		opts.Policy = everybody{}
	}
	opts.Limits.setDefaults()
	if opts.Greeted == nil {
		opts.Greeted = func(uint32) {}
	}
	if opts.Observer == nil {
		opts.Observer = unobserved{}
	}
	return &Server{
		opts: opts, relay: relay, results: results, verifier: verifier, signer: signer,
		limits: newLimits(opts.Limits, int(opts.MaxBody)), forgeries: newForgeries(opts.MaxBadSignatures), used: newUsed(),
		inFlight: semaphore.NewWeighted(opts.MaxInFlight),
		waits:    waits{most: opts.MaxWaits, mostAll: opts.MaxAllWaits},
		// Strangers must not fill the disk with lines, nor hide one kind behind another.
		log: opts.Log.Sample(zerolog.LevelSampler{InfoSampler: fewASecond(), WarnSampler: fewASecond()}),
	}
}

func fewASecond() zerolog.Sampler {
	return &zerolog.BurstSampler{Burst: 20, Period: time.Second}
}

// Handler serves the five endpoints.
func (s *Server) Handler() http.Handler {
	r := chi.NewRouter()
	r.Use(s.outlivePanics)
	r.Use(s.boundBodies)
	r.Post(transfer.Path, s.transfer)
	r.Group(func(r chi.Router) {
		if s.opts.RequireV2 {
			r.Use(s.refuseVersion1)
		}
		r.Post("/zbus-remote", s.remote)
		r.Post("/zbus-reply", s.reply)
		r.Post("/zbus-cmd", s.command)
	})
	r.Post("/zbus-result", s.result)
	return r
}

// refuseVersion1 answers before anything is read.
func (s *Server) refuseVersion1(http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		s.turnAway(w, req, nil, msgbus.Refuse(msgbus.VersionRequired, "this relay takes transfers (%s) only", transfer.Path))
	})
}

// Unready answers while there is no relay yet: the peer is to come back, and not
// to wait for an answer that no one will give.
func Unready(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Retry-After", "1")
	writeError(w, http.StatusServiceUnavailable, msgbus.Refuse(msgbus.Starting, "this relay is starting"))
}

// HTTPServer wraps a handler with the limits that a listener on the open
// network needs. Slow bodies get the time that slow peers are given by
// [Client].
func HTTPServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       75 * time.Second,
		WriteTimeout:      120 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    8 << 10,
	}
}

func (s *Server) remote(w http.ResponseWriter, req *http.Request) {
	s.receive(w, req, (*msgbus.Message).CheckRemoteRequest, s.relay.AcceptRequest)
}

func (s *Server) reply(w http.ResponseWriter, req *http.Request) {
	s.receive(w, req, (*msgbus.Message).CheckRemoteReply, s.relay.AcceptReply)
}

// receive takes one signed message from another relay.
func (s *Server) receive(w http.ResponseWriter, req *http.Request, check func(*msgbus.Message, uint32) error, accept func(context.Context, *msgbus.Message) error) {
	m, done, err := s.authenticate(w, req, check)
	if err == nil {
		defer done()
		err = accept(req.Context(), m)
	}
	if err != nil {
		s.turnAway(w, req, m, err)
		return
	}
	s.opts.Observer.MessagesReceived("", 1)
	writeJSON(w, http.StatusOK, map[string]string{"status": "accepted"})
}

func (s *Server) command(w http.ResponseWriter, req *http.Request) {
	m, done, err := s.authenticate(w, req, (*msgbus.Message).CheckProxied)
	var queue string
	if err == nil {
		defer done()
		queue, err = s.relay.AcceptCommand(req.Context(), m)
	}
	if err != nil {
		s.turnAway(w, req, m, err)
		return
	}
	s.opts.Observer.MessagesReceived("", 1)
	writeJSON(w, http.StatusOK, map[string]string{"retqueue": queue})
}

// authenticate reads a message and makes sure that its source signed it for
// this twin, now, and may send it; done must be called when it has been dealt
// with. What costs least comes first: nobody is looked up for a message that could
// not be accepted anyway.
func (s *Server) authenticate(w http.ResponseWriter, req *http.Request, check func(*msgbus.Message, uint32) error) (m *msgbus.Message, done func(), err error) {
	body, err := s.readBody(w, req, s.opts.MaxBody)
	if err != nil {
		return nil, nil, err
	}
	m, err = msgbus.Decode(body)
	if err != nil {
		return m, nil, err
	}
	signature, err := s.checkForm(m, check)
	if err != nil {
		return m, nil, err
	}
	challenge := m.Challenge()
	err = s.verify(req, m.Source, func() error { return s.verifier.Verify(req.Context(), m.Source, challenge[:], signature) })
	if err != nil {
		return m, nil, err
	}
	done, err = s.limits.begin(m.Source, 1, len(body))
	return m, done, err
}

// checkForm tells whether a message could be accepted, whoever signed it, and
// returns its signature.
func (s *Server) checkForm(m *msgbus.Message, check func(*msgbus.Message, uint32) error) ([]byte, error) {
	m.Note = nil
	if err := check(m, s.opts.Twin); err != nil {
		return nil, err
	}
	if m.Epoch != "" && !plainEpoch(m.Epoch) {
		return nil, msgbus.Refuse(msgbus.Malformed, "epoch is not 1 to 32 hexadecimal digits")
	}
	if err := checkClock(s.opts.Now().Unix(), m.Now); err != nil {
		return nil, err
	}
	signature, err := hex.DecodeString(m.Signature)
	if err != nil || len(signature) != 65 {
		return nil, msgbus.Refuse(msgbus.BadSignature, "sig is not the hex of 65 bytes")
	}
	// A signature is accepted once, told by this text: hex in another case must
	// not make it another one.
	m.Signature = hex.EncodeToString(signature)
	return signature, nil
}

// checkClock holds a message's `now` against the clock here.
func checkClock(here, now int64) error {
	const most = int64(msgbus.MaxSkew / time.Second)
	switch {
	case now < here-most:
		return msgbus.Refuse(msgbus.ClockSkew, "message is too old: its now is %d, it is %d here, at most %d seconds are allowed", now, here, most)
	case now > here+most:
		return msgbus.Refuse(msgbus.ClockSkew, "message is from the future: its now is %d, it is %d here, at most %d seconds are allowed", now, here, most)
	}
	return nil
}

// plainEpoch reports whether an epoch may become part of a stored name.
func plainEpoch(epoch string) bool {
	if len(epoch) > 32 {
		return false
	}
	for _, c := range []byte(epoch) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// status is what each refusal is on the wire.
func status(r msgbus.Reason) int {
	switch r {
	case msgbus.TooLarge:
		return http.StatusRequestEntityTooLarge
	case msgbus.NotExposed, msgbus.TwinNotAllowed, msgbus.CommandNotAllowed, msgbus.VersionRequired, msgbus.EncryptionRequired:
		return http.StatusForbidden
	case msgbus.BelowWindow, msgbus.Replayed, msgbus.UnknownKey:
		return http.StatusConflict
	case msgbus.RateLimited, msgbus.TooManyForgeries:
		return http.StatusTooManyRequests
	case msgbus.QueueFull, msgbus.Overloaded, msgbus.TooManyLookups, msgbus.KeyUncertain, msgbus.StorageFull, msgbus.StorageFailed:
		return http.StatusServiceUnavailable
	case msgbus.ResolverUnavailable:
		return http.StatusBadGateway
	case msgbus.Poison:
		return http.StatusInternalServerError
	default:
		return http.StatusBadRequest
	}
}

// refuse answers with an error, and returns its reason.
func (s *Server) refuse(w http.ResponseWriter, req *http.Request, m *msgbus.Message, err error) msgbus.Reason {
	twin := uint32(0)
	if m != nil {
		twin = m.Source
	}
	refusal := s.refusalOf(req, twin, err)
	askToComeAgain(w, refusal)
	writeError(w, status(refusal.Reason), refusal)
	return refusal.Reason
}

// refusalOf tells why something is refused, here and to whoever sent it; twin is
// 0 when nobody knows who that is. What Redis cannot do now is told as such, and
// never in its own words.
func (s *Server) refusalOf(req *http.Request, twin uint32, err error) *msgbus.Refusal {
	var refusal *msgbus.Refusal
	switch {
	case errors.As(err, &refusal):
	case errors.Is(err, msgbus.ErrStorageFull):
		refusal = msgbus.Refuse(msgbus.StorageFull, "the storage takes no more data")
	default:
		refusal = msgbus.Refuse(msgbus.StorageFailed, "the storage cannot serve now")
		s.log.Warn().Err(err).Str("path", req.URL.Path).Msg("cannot take a message")
	}
	event := s.log.Info().Str("path", req.URL.Path).Str("peer", req.RemoteAddr).Str("reason", string(refusal.Reason)).Str("detail", refusal.Text)
	if twin != 0 {
		event = event.Uint32("twin", twin)
	}
	event.Msg("refused a message")
	return refusal
}

// askToComeAgain says when, if the refusal is not for good.
func askToComeAgain(w http.ResponseWriter, r *msgbus.Refusal) {
	if comesAgain(r.Reason) {
		w.Header().Set("Retry-After", strconv.Itoa(wholeSeconds(r.Rest)))
	}
}

// comesAgain tells of a reason that is not for good: the message may be taken
// later.
func comesAgain(r msgbus.Reason) bool {
	code := status(r)
	return code == http.StatusServiceUnavailable || code == http.StatusTooManyRequests
}

// wholeSeconds is a wait as Retry-After tells it: none is a second.
func wholeSeconds(wait time.Duration) int {
	return int(max(1, (wait+time.Second-1)/time.Second))
}

// errorBody is what published clients show: they read Message.
type errorBody struct {
	Status  string
	Message string
	Reason  msgbus.Reason
}

func writeError(w http.ResponseWriter, code int, r *msgbus.Refusal) {
	writeJSON(w, code, errorBody{Status: "error", Message: r.Text, Reason: r.Reason})
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		code, body = http.StatusInternalServerError, []byte(`{"Status":"error","Message":"cannot encode the answer"}`)
	}
	writeRaw(w, code, body)
}

func writeRaw(w http.ResponseWriter, code int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	write(w, code, body)
}

func write(w http.ResponseWriter, code int, body []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	_, _ = w.Write(body)
}
