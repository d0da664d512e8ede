package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
)

// A browser gets another one's answer, or a picture that is no picture.
func TestAnswersGoToTheFrontEndThatAsks(t *testing.T) {
	p := newPlatform(t)
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	p.tron(hello)
	p.runner(p.b.ID, map[string]Function{hello.SHA: func(_ context.Context, r *ServiceRequest) (Result, error) {
		body, err := r.Content()
		return Result{Status: http.StatusCreated, Headers: [][2]string{{"X-Path", r.URI}, {"Set-Cookie", "a=1"}, {"Set-Cookie", "b=2"}}, Body: body}, err
	}})
	here, _ := p.frontEnd(p.a.ID, "nginx-1")
	there, _ := p.frontEnd(p.b.ID, "nginx-2")
	var all sync.WaitGroup
	for _, f := range []*FrontEnd{here, there} {
		p.awaitRoutes(f, "/hello 1002/func-4f1ab2")
		for i := range 10 {
			all.Go(func() {
				path := fmt.Sprintf("/hello/%s/%d", f.opts.Instance, i)
				w := httptest.NewRecorder()
				f.ServeHTTP(w, httptest.NewRequestWithContext(p.patient(), http.MethodPut, path, bytes.NewReader(every)))
				if w.Code != http.StatusCreated || w.Header().Get("X-Path") != path || !slices.Equal(w.Header().Values("Set-Cookie"), []string{"a=1", "b=2"}) {
					t.Errorf("%s is answered %d %v", path, w.Code, w.Header())
				}
				if !bytes.Equal(w.Body.Bytes(), every) {
					t.Errorf("the body of %s comes back as %q", path, w.Body)
				}
			})
		}
	}
	all.Wait()

	askedBy := make(map[string]string) // request id → reply-to
	for _, m := range p.seenB.all() {
		if r, err := parse[ServiceRequest](m.Raw, ActionService); err == nil {
			askedBy[r.RequestID] = frontEndQueue(r.ReplyTo)
			if r.ReplyQueue.Name != frontEndQueue(r.ReplyTo) || r.ReplyQueue.Twin != m.From {
				t.Errorf("a request of twin %d is to be answered to %s", m.From, r.ReplyQueue)
			}
		}
	}
	answers := 0
	for _, m := range append(p.seenA.all(), p.seenB.all()...) {
		if a, err := parse[Answer](m.Raw, ActionAnswer); err == nil {
			answers++
			if askedBy[a.RequestID] != m.To {
				t.Errorf("%s gets the answer to a request of %s", m.To, askedBy[a.RequestID])
			}
		}
	}
	if len(askedBy) != 20 || answers != 20 {
		t.Errorf("%d requests and %d answers, want 20", len(askedBy), answers)
	}
}

// A browser waits for a minute for what is known at once.
func TestABrowserIsToldWhatIsWrong(t *testing.T) {
	p := newPlatform(t)
	p.tron(hello)
	_, runs := p.runner(p.b.ID, map[string]Function{hello.SHA: func(context.Context, *ServiceRequest) (Result, error) {
		return Result{}, errors.New("out of bread")
	}})
	front, _ := p.frontEnd(p.a.ID, "nginx-1")
	p.wantGet(front, "/hello/x", 404, "no function is here")
	p.awaitRoutes(front, "/hello 1002/func-4f1ab2")
	p.wantGet(front, "/other", 404, "no function is here")
	p.wantGet(front, "/hello/x", 502, "out of bread")
	large := httptest.NewRecorder()
	front.ServeHTTP(large, httptest.NewRequest(http.MethodPost, "/hello/x", bytes.NewReader(make([]byte, maxBody+1))))
	if large.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("a body that is too large is answered %d", large.Code)
	}
	runs.leave()
	// Of a table that is older than that.
	request := front.serviceRequest(httptest.NewRequest(http.MethodGet, "/hello/x", nil), nil)
	result, err := front.service(p.patient(), Queue{p.b.ID, bundleQueue(hello.SHA)}, request)
	if err == nil || statusOf(err) != http.StatusServiceUnavailable {
		t.Errorf("a queue that nobody serves answers %v, %v", result, err)
	}
}
