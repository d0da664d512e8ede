package httpapi

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/msgbusd/msgbusd/msgbus"
)

// pollEvery is how often a long poll looks. Services may push a result without
// this relay's knowledge, so it has to look.
const pollEvery = 50 * time.Millisecond

// result answers `/zbus-result`: the messages that have arrived, none yet being
// no error. They stay where they are.
func (s *Server) result(w http.ResponseWriter, req *http.Request) {
	const most = 4 << 10
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, most))
	var asked struct{ Retqueue string }
	if err == nil {
		err = json.Unmarshal(body, &asked)
	}
	id, parseErr := uuid.Parse(asked.Retqueue)
	if err != nil || parseErr != nil || id.Version() != 4 || len(asked.Retqueue) != 36 {
		writeError(w, http.StatusBadRequest, msgbus.Refuse(msgbus.Malformed, "Invalid Retqueue, it should be a valid UUID"))
		return
	}
	wait, err := s.waitOf(req)
	if err != nil {
		writeError(w, http.StatusBadRequest, msgbus.Refuse(msgbus.Malformed, "%s", err.Error()))
		return
	}
	if wait > 0 {
		release, ok := s.waits.begin(req.RemoteAddr)
		if !ok {
			w.Header().Set("Retry-After", "1")
			writeError(w, http.StatusTooManyRequests, msgbus.Refuse(msgbus.Overloaded, "too many requests are waiting, of this address or in all"))
			return
		}
		defer release()
	}
	source, messages, err := s.await(req.Context(), asked.Retqueue, wait)
	if err != nil && !errors.Is(err, msgbus.ErrNotFound) {
		s.refuse(w, req, nil, err)
		return
	}
	writeRaw(w, http.StatusOK, s.signResults(asked.Retqueue, source, messages))
}

// waitOf reads ?wait=: a duration such as 10s, cut to the longest.
func (s *Server) waitOf(req *http.Request) (time.Duration, error) {
	text := req.URL.Query().Get("wait")
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, errors.New("wait must be a duration such as 10s")
	}
	return min(d, s.opts.LongestWait), nil
}

// await looks for results until there are some or the wait is over.
func (s *Server) await(ctx context.Context, queue string, wait time.Duration) (uint32, []string, error) {
	over := time.NewTimer(wait)
	defer over.Stop()
	again := time.NewTicker(pollEvery)
	defer again.Stop()
	for {
		source, messages, err := s.results.Results(ctx, queue)
		if err != nil || len(messages) > 0 || wait <= 0 {
			return source, messages, err
		}
		select {
		case <-ctx.Done():
			return 0, nil, nil
		case <-s.opts.Stop:
			return 0, nil, nil
		case <-over.C:
			wait = 0 // one last look
		case <-again.C:
		}
	}
}

// signResults writes the messages as clients expect them: data as plain text,
// a fresh `now`, signed by this relay after decoding, and marked so that what
// is signed can be read as nothing but a result.
func (s *Server) signResults(queue string, source uint32, messages []string) []byte {
	out := []byte{'['}
	for _, raw := range messages {
		m, err := msgbus.Decode(raw)
		if err != nil {
			s.log.Warn().Str("msg_id", queue).Str("reason", string(msgbus.Malformed)).Msg("left out of a result what is no message")
			continue
		}
		if text, err := base64.StdEncoding.DecodeString(m.Data); err == nil {
			m.Data = strings.ToValidUTF8(string(text), "\uFFFD")
		}
		m.Version, m.UID, m.ReturnQueue = msgbus.Version, queue, queue
		m.Source, m.Destinations = s.opts.Twin, []uint32{source}
		m.Now = s.opts.Now().Unix()
		m.MarkResult()
		challenge := m.Challenge()
		m.Signature = hex.EncodeToString(s.signer.Sign(challenge[:]))
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = m.AppendWire(out)
	}
	return append(out, ']')
}

// waits bounds the long polls, of each caller and in all.
type waits struct {
	most    int // of one caller
	mostAll int

	mu   sync.Mutex
	open map[string]int // by caller; guarded by mu
	all  int            // guarded by mu
}

func (w *waits) begin(remote string) (release func(), ok bool) {
	from := caller(remote)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all >= w.mostAll || w.open[from] >= w.most {
		return nil, false
	}
	if w.open == nil {
		w.open = make(map[string]int)
	}
	w.open[from]++
	w.all++
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.all--
		if w.open[from]--; w.open[from] == 0 {
			delete(w.open, from)
		}
	}, true
}

// caller is whom an address counts as: of IPv6 its /64, since whoever has one
// address there has them all.
func caller(remote string) string {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return remote
	}
	addr := at.Addr().WithZone("").Unmap()
	if addr.Is4() {
		return addr.String()
	}
	return netip.PrefixFrom(addr, 64).Masked().String()
}
