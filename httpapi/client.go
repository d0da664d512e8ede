package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/rs/zerolog"

	"github.com/msgbusd/msgbusd/httpapi/transfer"
	"github.com/msgbusd/msgbusd/msgbus"
)

// A Directory knows where twins are. Its errors are *msgbus.Refusal when the
// twin will not be found there, and *msgbus.Failure when nobody knows now.
type Directory interface {
	// Endpoints returns where a twin's relays are, one or more that share a Redis: each
	// http://host:port, or https://host:port if it is to be asked over TLS.
	Endpoints(ctx context.Context, twin uint32) ([]string, error)
	Verifier
}

// ClientOptions are the settings of a Client; each zero value stands for its
// default.
type ClientOptions struct {
	// Dial connects to an address. It decides which addresses may be dialled: an
	// error that is a *msgbus.Refusal ends the message. net/http does not end a
	// dial when its request ends, so it must end by itself; the default does.
	Dial        func(ctx context.Context, network, address string) (net.Conn, error)
	TLS         *TLS             // with relays at https://; nil believes the system's authorities and shows nothing
	InFlight    int              // messages on their way to one twin; default 16
	MaxInFlight int64            // bytes of large messages on their way to all twins, an eighth of them to one, or to all that failed last; default 64 MiB
	Timeout     time.Duration    // for an answer, beyond what the size takes; default 10 s
	Now         func() time.Time // the clock of `now`; default time.Now

	Twin              uint32 // whose relay this is
	RequireV2         bool   // send transfers, and nothing as version 1
	RequireEncryption bool   // send sealed transfers, and nothing else
	CompressFrom      int    // bytes of a transfer that is compressed; 0: none is
	Memory            Memory // of what peers speak; nil: this process remembers it
	Log               zerolog.Logger
}

// A Client carries messages to other twins' relays.
type Client struct {
	opts      ClientOptions
	directory Directory
	signer    Signer
	http      *http.Client
	bytes     *budget
	failing   *failing
	paces     *paces // of version 1, messages side by side
	batches   *paces // of version 2, messages in a transfer
	peers     *peers
	standings *standings // of the addresses of twins that have several
	sealer    *transfer.Sealer
}

// NewClient returns a Client. It follows no redirect and knows no proxy: the
// address in the twin's record is where a message goes, or it goes nowhere.
func NewClient(opts ClientOptions, directory Directory, signer Signer) *Client {
	if opts.InFlight == 0 {
		opts.InFlight = 16
	}
	if opts.MaxInFlight == 0 {
		opts.MaxInFlight = 64 << 20
	}
	if opts.Timeout == 0 {
		opts.Timeout = 10 * time.Second
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Memory == nil {
		opts.Memory = forgetful{}
	}
	if opts.Dial == nil {
		opts.Dial = (&net.Dialer{Timeout: opts.Timeout}).DialContext
	}
	return &Client{
		opts:      opts,
		directory: directory,
		signer:    signer,
		bytes:     newBudget(opts.MaxInFlight),
		failing:   newFailing(opts.MaxInFlight / 8),
		paces:     newPaces(opts.InFlight),
		batches:   newPaces(mostInTransfer),
		peers:     newPeers(opts),
		standings: newStandings(),
		sealer:    transfer.NewSealer(opts.Twin, opts.Now),
		http: &http.Client{
			Transport: &http.Transport{
				DialContext:            opts.Dial,
				DialTLSContext:         opts.TLS.over(opts.Dial, opts.Timeout),
				MaxIdleConns:           1024,
				MaxIdleConnsPerHost:    opts.InFlight,
				MaxConnsPerHost:        2 * opts.InFlight,
				IdleConnTimeout:        90 * time.Second,
				MaxResponseHeaderBytes: 16 << 10,
				DisableCompression:     true,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Greeted notes that a twin's relay has sent a transfer: it speaks version 2.
func (c *Client) Greeted(twin uint32) { c.peers.greeted(twin) }

// Send hands messages to a twin's relay, or to one of several: in transfers when it
// speaks version 2, and otherwise each in a POST of its own. Once one attempt fails the rest is not
// tried. A *msgbus.Panic is the error of a message that makes this side panic, a
// *msgbus.Deferral that of one which the peer will take later.
func (c *Client) Send(ctx context.Context, twin uint32, messages []msgbus.Outgoing) []error {
	endpoints, err := c.directory.Endpoints(ctx, twin)
	if err != nil {
		return forAll(len(messages), err)
	}
	to := destination{twin: twin, own: newBudget(c.opts.MaxInFlight / 8), patience: noLimit}
	if c.failing.has(twin) {
		to.own, to.patience = c.failing.share, c.opts.Timeout
	}
	errs := c.sendAnywhere(ctx, to, endpoints, messages)
	c.failing.note(twin, errs)
	return errs
}

// sendTo speaks to a relay as it understands it.
func (c *Client) sendTo(ctx context.Context, to destination, messages []msgbus.Outgoing) []error {
	known, err := c.peers.of(ctx, to.twin)
	if err == nil && known.version == unknownVersion {
		known, err = c.greet(ctx, to, known)
	}
	switch {
	case err != nil:
		return forAll(len(messages), err)
	case known.version == version2:
		return c.sendTransfers(ctx, to, messages)
	default:
		return c.sendSingly(ctx, to, messages)
	}
}

// A destination is where messages go, and what of the large ones may be on
// their way there.
type destination struct {
	twin     uint32
	endpoint string
	own      *budget
	patience time.Duration // of a message that waits for its share of own
}

// forAll is one outcome of many messages.
func forAll(messages int, err error) []error {
	errs := make([]error, messages)
	for i := range errs {
		errs[i] = err
	}
	return errs
}

// noLimit is the patience of a message to a twin that answered last.
const noLimit = time.Duration(math.MaxInt64)

// reserve waits until a message may be on its way: first for its twin's own
// share, so that a slow twin's messages do not queue for what others need. Where
// twins that failed last share one, a lane that waits for long keeps small
// messages to others of them waiting: it comes again.
func (c *Client) reserve(ctx context.Context, to destination, size int) (release func(), err error) {
	size -= freeBody
	if size <= 0 {
		return func() {}, nil
	}
	stopped := &msgbus.Failure{Reason: msgbus.Timeout, Detail: "stopped before it was sent"}
	waiting, cancel := context.WithTimeout(ctx, to.patience)
	defer cancel()
	releaseOwn, err := to.own.acquire(waiting, size)
	switch {
	case err != nil && ctx.Err() == nil:
		return nil, &msgbus.Failure{Reason: msgbus.Overloaded, Detail: "large messages to twins that failed last wait for each other", Rest: to.patience}
	case err != nil:
		return nil, stopped
	}
	releaseAll, err := c.bytes.acquire(ctx, size)
	if err != nil {
		releaseOwn()
		return nil, stopped
	}
	return func() { releaseAll(); releaseOwn() }, nil
}

// An answer is what a peer said, whoever it was.
type answer struct {
	code   int
	header http.Header
	body   []byte
}

// exchange posts a body and reads the answer.
func (c *Client) exchange(ctx context.Context, to destination, path string, header http.Header, body []byte) (*answer, error) {
	limit := c.limit(len(body))
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	req, err := http.NewRequestWithContext(limited, http.MethodPost, to.endpoint+path, bytes.NewReader(body))
	if err != nil {
		return nil, msgbus.Refuse(msgbus.BadAddress, "the address of twin %d cannot be used", to.twin)
	}
	req.Header = header
	req.Header.Set("User-Agent", "msgbusd")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, overlook(ctx, sendError(to.twin, err, limit), err)
	}
	defer resp.Body.Close()
	// Reading to the end lets the connection be used again.
	const mostAnswer = 128 << 10 // more than the outcomes of the largest transfer
	said, err := io.ReadAll(io.LimitReader(resp.Body, mostAnswer))
	if err != nil && (resp.StatusCode/100 != 2 || path == transfer.Path) {
		return nil, overlook(ctx, sendError(to.twin, err, limit), err)
	}
	return &answer{code: resp.StatusCode, header: resp.Header, body: said}, nil
}

// limit is how long one message may take: a slow peer gets the time that its
// size takes at 1 KB/s, up to a minute.
func (c *Client) limit(size int) time.Duration {
	return min(c.opts.Timeout+time.Duration(size)*time.Millisecond, max(time.Minute, c.opts.Timeout))
}

// sendError tells what a failed exchange means.
func sendError(twin uint32, err error, limit time.Duration) error {
	var refusal *msgbus.Refusal
	var timeout net.Error
	switch {
	case errors.As(err, &refusal):
		return refusal
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return &msgbus.Failure{Reason: msgbus.Timeout, Detail: fmt.Sprintf("twin %d did not answer within %s", twin, limit.Round(time.Millisecond))}
	}
	if failure := tlsFailure(twin, err); failure != nil {
		return failure
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		err = op.Err
	}
	return &msgbus.Failure{Reason: msgbus.Unreachable, Detail: fmt.Sprintf("twin %d cannot be reached: %s", twin, bareError(err))}
}

// bareError leaves out the URL that net/http puts before its errors.
func bareError(err error) string {
	text := err.Error()
	if i := strings.LastIndex(text, `": `); i >= 0 {
		text = text[i+3:]
	}
	return text
}

// reason is the typed one of an error body.
func (a *answer) reason() msgbus.Reason {
	var body errorBody
	_ = json.Unmarshal(bytes.TrimSpace(a.body), &body) // without one there is no reason
	return body.Reason
}

// text is what an answer says to people.
func (a *answer) text() string { return fmt.Sprintf("status %d: %s", a.code, answerText(a.body)) }

// busy is for a peer that asks to come again. One that is only starting has looked at
// nothing.
func busy(twin uint32, a *answer) error {
	f := &msgbus.Failure{Reason: msgbus.PeerBusy, Detail: fmt.Sprintf("twin %d is busy: %s", twin, a.text()), Rest: a.retryAfter()}
	if a.reason() == msgbus.Starting {
		return passedOver{f}
	}
	return f
}

// retryAfter reads seconds; a date is as good as a second for a lane.
func (a *answer) retryAfter() time.Duration {
	s, err := strconv.Atoi(a.header.Get("Retry-After"))
	if err != nil || s < 1 {
		s = 1
	}
	return time.Duration(min(s, 3600)) * time.Second
}

// answerText finds the message in an error body, which published relays write
// as Message, message or error, or as plain text.
func answerText(body []byte) string {
	var fields map[string]any
	if json.Unmarshal(body, &fields) == nil {
		for _, want := range [...]string{"message", "error"} {
			for name, v := range fields {
				if text, ok := v.(string); ok && strings.EqualFold(name, want) {
					return clip(text)
				}
			}
		}
	}
	return clip(string(body))
}

// clip keeps a peer's text short and on one line, and terminals from obeying it.
func clip(text string) string {
	const most = 200
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	if text == "" {
		return "no text"
	}
	return text
}
