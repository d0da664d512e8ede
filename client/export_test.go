package client

import "time"

// SetGrace has requests wait so long after their deadlines for the relay's error.
func (c *Client) SetGrace(d time.Duration) { c.grace = d }

// SetSilence has streams of groups that are opened then count as dead after so long.
func (c *Client) SetSilence(d time.Duration) { c.silence = d }

// List is where answers come.
func (c *Client) List() string { return c.list }

// Waiting is how many requests wait, and whether anybody reads for them.
func (c *Client) Waiting() (n int, reading bool) {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	return len(c.in.waiting), c.in.running
}

// Unsent is how many requests have not left for Redis.
func (c *Client) Unsent() int {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return len(c.out.queue)
}
