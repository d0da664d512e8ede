package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/google/uuid"

	"github.com/msgbusd/msgbusd/client"
	"github.com/msgbusd/msgbusd/msgbus"
)

// maxBody is how many bytes a request may have: a relay carries 4 MiB, and base64 twice
// (the body in the message, the message on the bus) makes more of them.
const maxBody = 1 << 20

// ServeHTTP sends a request to its runner and answers what that answers.
func (f *FrontEnd) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	queue, ok := f.route(r.Host, r.URL.Path)
	if !ok {
		http.Error(w, "no function is here", http.StatusNotFound)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), f.opts.Times.AnswerWithin)
	defer cancel()
	result, err := f.service(ctx, queue, f.serviceRequest(r, body))
	if err != nil {
		http.Error(w, err.Error(), statusOf(err))
		return
	}
	for _, h := range result.Headers {
		w.Header().Add(h[0], h[1])
	}
	w.WriteHeader(result.Status)
	_, _ = w.Write(result.Body) // its reader has gone: nobody to tell
}

// service asks once: the bus delivers a request once however often its relays end, and an
// error does not tell whether the function has run. A queue that nobody serves is an
// error at once.
func (f *FrontEnd) service(ctx context.Context, queue Queue, request *ServiceRequest) (Result, error) {
	raw, err := client.Call[json.RawMessage](ctx, f.bus, queue.Twin, queue.Name, request, client.Mandatory(), client.Retries(untiring))
	if err != nil {
		return Result{}, err
	}
	f.opts.Story.Saw(Message{To: f.queue, From: queue.Twin, Raw: raw})
	answer, err := parse[Answer](raw, ActionAnswer)
	switch {
	case err != nil:
		return Result{}, err
	case answer.RequestID != request.RequestID:
		return Result{}, fmt.Errorf("the answer is one to request %s", answer.RequestID)
	case answer.Answer.Status < 200 || answer.Answer.Status > 599:
		return Result{}, fmt.Errorf("the answer has the status %d", answer.Answer.Status)
	}
	return answer.Answer, nil
}

// statusOf is what a browser is told of an error of the bus or of a function.
func statusOf(err error) int {
	var answered *client.Error
	switch {
	case errors.Is(err, client.ErrNoAnswer), errors.Is(err, context.DeadlineExceeded):
		return http.StatusGatewayTimeout
	case !errors.As(err, &answered):
		return http.StatusBadGateway
	}
	switch answered.Reason() {
	case msgbus.NoService:
		return http.StatusServiceUnavailable
	case msgbus.Expired:
		return http.StatusGatewayTimeout
	default:
		return http.StatusBadGateway
	}
}

// serviceRequest says of a request what nginx would.
func (f *FrontEnd) serviceRequest(r *http.Request, body []byte) *ServiceRequest {
	remoteAddr, remotePort, _ := net.SplitHostPort(r.RemoteAddr) // empty if there is none
	var serverAddr, serverPort string
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		serverAddr, serverPort, _ = net.SplitHostPort(local.String())
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	user, _, _ := r.BasicAuth()
	return &ServiceRequest{
		Action: ActionService, Headers: r.Header, Method: r.Method, URIArgs: r.URL.Query(), Host: r.Host,
		ContentType: r.Header.Get("Content-Type"), RemoteAddr: remoteAddr, ServerProtocol: r.Proto,
		ServerPort: serverPort, ServerAddr: serverAddr, RemotePort: remotePort, RequestURI: r.RequestURI,
		RequestID: uuid.NewString(), Args: r.URL.RawQuery, RemoteUser: user,
		Request:     r.Method + " " + r.RequestURI + " " + r.Proto,
		HTTPReferer: r.Referer(), HTTPUserAgent: r.UserAgent(), Scheme: scheme, URI: r.URL.Path,
		ReplyTo: f.opts.ID, ReplyQueue: Queue{f.opts.Twin, f.queue},
		BodyBase64Encoded: true, Body: base64.StdEncoding.EncodeToString(body),
	}
}
