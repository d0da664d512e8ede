package main

import (
	"context"
	"net/http"
)

// An HTTPService is what nodes ask when they have booted. What it answers it asks of the
// task that works on the node.
type HTTPService struct{ bus *Bus }

// NewHTTPService returns a service that asks over b.
func NewHTTPService(b *Bus) *HTTPService { return &HTTPService{b} }

// DefaultProfile is for nodes that no task works on.
const DefaultProfile = "redirect.ipxe"

// Profile answers what a node shall boot.
func (h *HTTPService) Profile(ctx context.Context, nodeID string) (Profile, error) {
	p, err := request[Profile](ctx, h.bus, RequestProfile, NodeQuestion{nodeID}, nodeID)
	if IsNoService(err) {
		p, err = Profile{Profile: DefaultProfile}, nil
	}
	return p, h.tell(ctx, nodeID, http.MethodGet, "/api/current/profiles", err)
}

// Commands answers what a node shall run.
func (h *HTTPService) Commands(ctx context.Context, nodeID string) (Commands, error) {
	c, err := request[Commands](ctx, h.bus, RequestCommands, NodeQuestion{nodeID}, nodeID)
	return c, h.tell(ctx, nodeID, http.MethodGet, "/api/current/tasks/"+nodeID, err)
}

// Respond takes what the commands of a node have printed.
func (h *HTTPService) Respond(ctx context.Context, r CommandResults) error {
	_, err := request[Nothing](ctx, h.bus, RespondCommands, r, r.NodeID)
	return h.tell(ctx, r.NodeID, http.MethodPost, "/api/current/tasks/"+r.NodeID, err)
}

// tell publishes what a node was answered, and returns failed. The document is uncertain
// whether the key of the http exchange is the same as that of events: both have listeners.
func (h *HTTPService) tell(ctx context.Context, nodeID, method, url string, failed error) error {
	m := HTTPResponse{NodeID: nodeID, Method: method, URL: url, StatusCode: http.StatusOK}
	switch {
	case IsNoService(failed):
		m.StatusCode = http.StatusNotFound
	case failed != nil:
		m.StatusCode = http.StatusBadGateway
	}
	err := h.bus.Publish(ctx, HTTPResponded, m, nodeID)
	if err == nil {
		err = h.bus.Publish(ctx, HTTPRespondedToo, m)
	}
	if failed != nil {
		return failed
	}
	return err
}
