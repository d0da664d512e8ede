package httpapi

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/sync/errgroup"

	"github.com/msgbusd/msgbusd/msgbus"
)

// A Directory knows where twins are. Its errors are *msgbus.Refusal when the
// twin will not be found there, and *msgbus.Failure when nobody knows now.
type Directory interface {
	// Endpoint returns where a twin's relay is: http://host:port, or https://host:port
	// if it is to be asked over TLS.
	Endpoint(ctx context.Context, twin uint32) (string, error)
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
}

// A Client carries messages to other twins' relays.
type Client struct {
	opts      ClientOptions
	directory Directory
	signer    Signer
	http      *http.Client
	bytes     *budget
	failing   *failing
	paces     *paces
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

// Send posts messages to a twin's relay, each signed on its own, a few at a
// time. Once one attempt fails the rest is not tried. A *msgbus.Panic is the
// error of a message that makes this side panic.
func (c *Client) Send(ctx context.Context, twin uint32, messages []msgbus.Outgoing) []error {
	errs := make([]error, len(messages))
	endpoint, err := c.directory.Endpoint(ctx, twin)
	if err != nil {
		for i := range errs {
			errs[i] = err
		}
		return errs
	}
	var mu sync.Mutex
	var failed *msgbus.Failure // guarded by mu
	var group errgroup.Group
	group.SetLimit(c.paces.of(twin))
	own, patience := newBudget(c.opts.MaxInFlight/8), noLimit
	if c.failing.has(twin) {
		own, patience = c.failing.share, c.opts.Timeout
	}
	for i, o := range messages {
		group.Go(func() error {
			errs[i] = msgbus.Guard(func() error {
				release, err := c.reserve(ctx, own, patience, o.Message)
				if err != nil {
					return err
				}
				defer release()
				mu.Lock()
				stop := failed
				mu.Unlock()
				if stop != nil {
					return stop
				}
				return c.post(ctx, twin, endpoint, o)
			})
			if f := (*msgbus.Failure)(nil); errors.As(errs[i], &f) {
				mu.Lock()
				failed = f
				mu.Unlock()
			}
			return nil
		})
	}
	_ = group.Wait() // outcomes are in errs
	c.failing.note(twin, errs)
	c.paces.note(twin, errs)
	return errs
}

// noLimit is the patience of a message to a twin that answered last.
const noLimit = time.Duration(math.MaxInt64)

// reserve waits until a message may be on its way: first for its twin's own
// share, so that a slow twin's messages do not queue for what others need. Where
// twins that failed last share one, a lane that waits for long keeps small
// messages to others of them waiting: it comes again.
func (c *Client) reserve(ctx context.Context, own *budget, patience time.Duration, m *msgbus.Message) (release func(), err error) {
	size := len(m.AppendWire(nil)) - freeBody
	if size <= 0 {
		return func() {}, nil
	}
	stopped := &msgbus.Failure{Reason: msgbus.Timeout, Detail: "stopped before it was sent"}
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	releaseOwn, err := own.acquire(waiting, size)
	switch {
	case err != nil && ctx.Err() == nil:
		return nil, &msgbus.Failure{Reason: msgbus.Overloaded, Detail: "large messages to twins that failed last wait for each other", Rest: patience}
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

// seal makes a message of what its peer accepts at this moment: a message of an
// older `now` is refused for good.
func (c *Client) seal(o msgbus.Outgoing) (body []byte) {
	o.Message.Now = c.opts.Now().Unix()
	if o.Kind == msgbus.ReplyParcel {
		pin(o.Message)
	}
	challenge := o.Message.Challenge()
	o.Message.Signature = hex.EncodeToString(c.signer.Sign(challenge[:]))
	return o.Message.AppendWire(nil)
}

// pin makes a reply one that only its twin can read as a message to itself, and
// an error if it cannot be made one: empty data can always be pinned.
func pin(reply *msgbus.Message) {
	if reply.PinReply() {
		return
	}
	reply.Data, reply.Error = "", "the service's answer cannot be signed so that only its twin can read it"
	reply.PinReply()
}

// post seals and sends one message and reads what became of it.
func (c *Client) post(ctx context.Context, twin uint32, endpoint string, o msgbus.Outgoing) error {
	body := c.seal(o)
	limit := c.limit(len(body))
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	path := "/zbus-remote"
	if o.Kind == msgbus.ReplyParcel {
		path = "/zbus-reply"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint+path, bytes.NewReader(body))
	if err != nil {
		return msgbus.Refuse(msgbus.BadAddress, "the address of twin %d cannot be used", twin)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "msgbusd")
	resp, err := c.http.Do(req)
	if err != nil {
		return sendError(twin, err, limit)
	}
	defer resp.Body.Close()
	// Reading to the end lets the connection be used again.
	const mostAnswer = 16 << 10
	answer, err := io.ReadAll(io.LimitReader(resp.Body, mostAnswer))
	if err != nil && resp.StatusCode/100 != 2 {
		return sendError(twin, err, limit)
	}
	return outcome(twin, resp, answer)
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

// outcome reads an answer.
func outcome(twin uint32, resp *http.Response, body []byte) error {
	code := resp.StatusCode
	text := func() string { return fmt.Sprintf("status %d: %s", code, answerText(body)) }
	switch {
	case code/100 == 2:
		return nil
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable:
		return &msgbus.Failure{Reason: msgbus.PeerBusy, Detail: fmt.Sprintf("twin %d is busy: %s", twin, text()), Rest: retryAfter(resp)}
	case code == http.StatusBadRequest && wantsTLS(body):
		return &msgbus.Failure{Reason: msgbus.Unreachable, Detail: fmt.Sprintf("twin %d speaks TLS only, which its record does not say, or did not minutes ago", twin)}
	case code == http.StatusBadRequest, code == http.StatusForbidden, code == http.StatusConflict,
		code == http.StatusRequestEntityTooLarge, code == http.StatusUnprocessableEntity:
		return msgbus.Refuse(msgbus.RefusedByPeer, "twin %d refused the message: %s", twin, text())
	default:
		return &msgbus.Failure{Reason: msgbus.PeerFailed, Detail: fmt.Sprintf("twin %d could not take the message: %s", twin, text())}
	}
}

// retryAfter reads seconds; a date is as good as a second for a lane.
func retryAfter(resp *http.Response) time.Duration {
	s, err := strconv.Atoi(resp.Header.Get("Retry-After"))
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
