package tracing

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// answerMost is how much of a collector's answer is read.
const answerMost = 64 << 10

// ParseEndpoint reads the base URL of a collector and returns where its traces go. The
// error repeats nothing of the URL, which may hold a password.
func ParseEndpoint(base string) (string, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New("it is no http:// or https:// address")
	}
	return u.JoinPath("v1", "traces").String(), nil
}

// A refusal is the collector's word on spans that it will never take.
type refusal struct{ why string }

func (r *refusal) Error() string { return r.why }

func isRefusal(err error) bool {
	var r *refusal
	return errors.As(err, &r)
}

// busy is a failure after which the same spans may be sent again, when it has passed.
type busy struct {
	error
	after time.Duration // that the collector asks for; 0 when it does not say
}

// export posts a batch until the collector has dealt with it, as far as OTLP allows to try
// again and ctx lasts. It returns how many spans are lost, and why.
func (e *Exporter) export(ctx, own context.Context, batch []span) (lost int, err error) {
	body := e.encode(batch)
	rest := restFirst
	for try := 1; ; try++ {
		lost, err = e.post(own, body)
		var again *busy
		switch {
		case err == nil || lost > 0:
			return min(lost, len(batch)), err
		case !errors.As(err, &again) || try == triesMost:
			return len(batch), err
		case again.after == 0: // all relays of a fleet lose their collector at once
			again.after = rest/2 + rand.N(rest)
		}
		if !sleep(ctx, min(again.after, restMost)) {
			return len(batch), err
		}
		rest = min(2*rest, restMost)
	}
}

// post sends a batch once. With lost above 0 the collector has taken the others.
func (e *Exporter) post(ctx context.Context, body []byte) (lost int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.opts.Endpoint, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "msgbusd/"+e.opts.Version)
	resp, err := e.client.Do(req)
	if err != nil {
		if about := (*url.Error)(nil); errors.As(err, &about) {
			err = about.Err // which does not name the URL
		}
		return 0, &busy{error: err}
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, answerMost)) // as much of it as came
	switch resp.StatusCode {
	case http.StatusOK:
		return partly(answer)
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return 0, &busy{error: fmt.Errorf("the collector answers %d", resp.StatusCode), after: retryAfter(resp.Header)}
	default:
		return 0, &refusal{fmt.Sprintf("the collector answers %d", resp.StatusCode)}
	}
}

// partly reads how many spans the collector did not want. They are not sent again.
func partly(answer []byte) (lost int, err error) {
	var said struct {
		PartialSuccess struct {
			RejectedSpans json.Number `json:"rejectedSpans"`
			ErrorMessage  string      `json:"errorMessage"`
		} `json:"partialSuccess"`
	}
	if json.Unmarshal(answer, &said) != nil {
		return 0, nil // it has taken them, whatever it says
	}
	n, err := said.PartialSuccess.RejectedSpans.Int64()
	if err != nil || n <= 0 {
		return 0, nil
	}
	why := strings.ToValidUTF8(said.PartialSuccess.ErrorMessage, "")
	return int(min(n, batchMost)), &refusal{fmt.Sprintf("the collector rejects %d spans: %.200s", n, why)}
}

// retryAfter reads the two forms of the header.
func retryAfter(h http.Header) time.Duration {
	text := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

// sleep waits for d and reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
