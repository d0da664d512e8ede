package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	strict "github.com/go-json-experiment/json"

	"github.com/msgbusd/msgbusd/msgbus"
)

// A command is what a browser says over a WebSocket: one of these.
type command struct {
	Subscribe   []string     `json:"subscribe"`
	Latest      bool         `json:"latest"` // with subscribe
	Unsubscribe []string     `json:"unsubscribe"`
	Publish     *publication `json:"publish"`
}

type publication struct {
	Topic string          `json:"topic"`
	Data  json.RawMessage `json:"data"`
}

func parseCommand(text []byte) (*command, error) {
	var c command
	if err := strict.Unmarshal(text, &c, strict.RejectUnknownMembers(true)); err != nil {
		return nil, err
	}
	n := 0
	for _, given := range []bool{len(c.Subscribe) > 0, len(c.Unsubscribe) > 0, c.Publish != nil} {
		if given {
			n++
		}
	}
	if n != 1 || c.Latest && len(c.Subscribe) == 0 {
		return nil, errors.New("it is not one of the three")
	}
	return &c, nil
}

// handle does what one message asks for. It reports whether the connection may go on.
func (c *socket) handle(text []byte) bool {
	asked, err := parseCommand(text)
	switch {
	case err != nil:
		return c.refuse(refuse(BadMessage, `a message is {"subscribe":["topic"],"latest":true}, {"unsubscribe":["topic"]} or {"publish":{"topic":"…","data":…}}`))
	case asked.Publish != nil:
		return c.publish(asked.Publish)
	case len(asked.Unsubscribe) > 0:
		c.unsubscribe(asked.Unsubscribe)
		return c.tell("subscribed", *c.patterns.Load())
	}
	return c.begin(asked.Subscribe, asked.Latest)
}

// begin subscribes. What comes meanwhile waits until the browser knows that it has
// subscribed, and has been told of what was before.
func (c *socket) begin(patterns []string, withLatest bool) bool {
	c.queue.hold()
	defer c.queue.release()
	added, r := c.subscribe(c.ctx, patterns)
	if r != nil {
		return c.refuse(r)
	}
	if !c.tell("subscribed", *c.patterns.Load()) {
		return false
	}
	if !withLatest {
		return true
	}
	latest, r := c.latest(added)
	if r != nil {
		return c.refuse(r)
	}
	for _, m := range latest {
		if !c.event(m) {
			return false
		}
	}
	return true
}

// publishLimit is how long the bus may take for an event.
const publishLimit = 5 * time.Second

func (c *socket) publish(p *publication) bool {
	switch {
	case !msgbus.ValidTopic(p.Topic):
		return c.refuse(refuse(BadTopic, "%q is no topic", clip(p.Topic)))
	case !c.claims.mayPublish(p.Topic):
		return c.refuse(refuse(NotAllowed, "the token is not for publishing under %s", p.Topic))
	}
	data := p.Data
	if len(data) == 0 {
		data = json.RawMessage("null")
	}
	ctx, cancel := context.WithTimeout(c.ctx, publishLimit)
	defer cancel()
	if err := c.g.bus.Publish(ctx, p.Topic, data); err != nil {
		c.g.log.Warn().Err(err).Msg("an event of a browser cannot be published")
		return c.refuse(refuse(Unavailable, "the event cannot be published now: try again in a few seconds"))
	}
	return true
}
