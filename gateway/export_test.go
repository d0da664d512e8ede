package gateway

import "time"

// ReadToken is how the gateway reads a token.
func ReadToken(secret []byte, token string, now time.Time) (Claims, Reason) {
	c, r := readToken(secret, token, now)
	if r != nil {
		return c, r.Reason
	}
	return c, ""
}

func (c *Claims) MayHear(pattern string) bool  { return c.mayHear(pattern) }
func (c *Claims) MayPublish(topic string) bool { return c.mayPublish(topic) }

// AllowsOrigin is how the gateway judges pages.
func AllowsOrigin(origins []string, origin, host string) (bool, error) {
	o, err := parseOrigins(origins)
	return o.allow(origin, host), err
}

// A Queue is what waits for a connection.
type Queue struct{ q *queue }

func NewQueue(events, bytes int) Queue { return Queue{newQueue(events, bytes)} }

func (q Queue) Put(text string) { q.q.put(&message{text: []byte(text)}) }
func (q Queue) Lose(n int)      { q.q.lose(n) }
func (q Queue) Hold()           { q.q.hold() }
func (q Queue) Release()        { q.q.release() }
func (q Queue) Waits() (n int)  { return len(q.q.items) }
func (q Queue) Next() (text string, lost int, ok bool) {
	i, ok := q.q.next()
	if !ok {
		return "", 0, false
	}
	return string(i.text), i.lost, true
}
