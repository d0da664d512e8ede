package relay

import (
	"fmt"
	"math"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
)

// The messages that a relay makes of others.

// errorToApp is the request's own JSON with an error, as its app expects it:
// src is the twin that failed, by which an app that asked many twins tells
// which one did.
func (r *Relay) errorToApp(m *msgbus.Message, failed uint32, why *msgbus.Refusal) []byte {
	e := m.Clone()
	e.Version = msgbus.Version
	e.Source, e.Destinations = failed, []uint32{r.opts.Twin}
	e.Error, e.Signature, e.Epoch = why.Text, "", ""
	e.Now = r.backlog.Now().Unix()
	if e.Ext = e.Ext.ForReply(); e.Ext != nil {
		e.Ext.Progress, e.TypedError = "", errorOfBus(why)
	}
	return e.AppendReply(nil, m.Dialect)
}

// askAgain is a request as its app may push it once more.
func askAgain(m *msgbus.Message) []byte {
	again := m.Clone()
	again.UID, again.Source, again.Now = "", 0, 0
	return again.AppendWire(nil)
}

// errorOfBus is an error of the bus for apps that know of typed ones.
func errorOfBus(why *msgbus.Refusal) *msgbus.TypedError {
	return &msgbus.TypedError{Class: msgbus.ErrorClass(why.Reason), Message: why.Text}
}

// replyToApp is a service's reply, or an interim one, as the app that asked expects it.
func (r *Relay) replyToApp(reply *msgbus.Message, e *msgbus.Entry) []byte {
	asked := e.Message
	m := reply.Clone()
	m.Version, m.UID, m.Ref, m.Command = msgbus.Version, asked.UID, asked.Ref, asked.Command
	m.Source, m.Destinations = asked.Destinations[0], []uint32{asked.Source}
	m.ReturnQueue, m.Proxied = asked.ReturnQueue, asked.Proxied
	m.Signature, m.Epoch = "", ""
	m.Ext = asked.Ext.ForReply()
	if m.Ext != nil {
		m.Ext.Progress = ""
		if reply.IsInterim() {
			m.Ext.Status, m.Ext.Sequence = reply.Ext.Status, reply.Ext.Sequence
		}
	}
	if m.Expiration == 0 {
		m.Expiration = asked.Expiration
	}
	if m.Retry == 0 {
		m.Retry = asked.Retry
	}
	if m.Now == 0 {
		m.Now = r.backlog.Now().Unix()
	}
	return m.AppendReply(nil, e.Dialect)
}

// requestToPeer is an entry as it goes to the destination's relay: with a
// return queue that names nothing of ours, and the life that is left.
func (r *Relay) requestToPeer(e *msgbus.Entry) *msgbus.Message {
	now := r.backlog.Now()
	if now.Before(e.Admitted) {
		now = e.Admitted // Redis's clock as it is carried here lags a little; nobody asked for more life
	}
	m := e.Message.Clone()
	m.ReturnQueue = msgbus.WireReplyQueue
	m.Proxied, m.Error, m.Signature = false, "", ""
	m.Epoch = e.Epoch
	m.Now = now.Unix()
	m.Expiration = max(1, int64(math.Ceil(e.Deadline.Sub(now).Seconds())))
	if m.Ext != nil && m.Ext.Progress != "" {
		m.Ext.Progress = msgbus.WireReplyQueue
	}
	return m
}

// requestToService is a request as a service of this machine takes it. What
// the sender wrote into ret and pxy names nothing here, and its clock may be another one:
// the life of the request begins now.
func (r *Relay) requestToService(m *msgbus.Message, now time.Time) []byte {
	s := m.Clone()
	s.Now = now.Unix()
	s.ReturnQueue = r.backlog.Prefix() + ".system.reply"
	s.Proxied, s.Signature = false, ""
	s.Error, s.TypedError = "", nil // services echo what they do not know, and it would come back as theirs
	if s.Ext != nil {
		s.Ext.Status, s.Ext.Sequence = "", 0
		if s.Ext.Progress != "" {
			s.Ext.Progress = ""
			if r.knowsInterim(m) {
				s.Ext.Progress = s.ReturnQueue
			}
		}
	}
	return s.AppendRequest(nil, r.serviceDialect(m.Command))
}

// knowsInterim tells whether the relay of a request's source takes interim replies for
// it. Only relays of this project send an epoch, and only those that know of interim
// replies write where they go as between relays; an older one has carried the name as it came.
func (r *Relay) knowsInterim(m *msgbus.Message) bool {
	return m.Epoch != "" && m.Ext.Progress == msgbus.WireReplyQueue
}

// replyToPeer is a service's reply as it goes to the relay of the twin that
// asked. Fields that tell whose it is are ours, whatever the service wrote.
func (r *Relay) replyToPeer(reply *msgbus.Message, open *msgbus.Open) *msgbus.Message {
	m := reply.Clone()
	m.Version, m.UID, m.Epoch, m.Dialect = msgbus.Version, open.UID, open.Epoch, msgbus.Classic
	if open.Command != "" {
		m.Command = open.Command
	}
	m.Source, m.Destinations = r.opts.Twin, []uint32{open.Source}
	m.ReturnQueue, m.Proxied, m.Signature = msgbus.WireReplyQueue, false, ""
	m.Now = r.backlog.Now().Unix()
	m.Data = msgbus.CarriedData(m.Data)
	if m.Error == "" {
		m.TypedError = nil
	}
	m.Ext = nil // the rest is the request's, and its source knows it
	switch {
	case reply.IsInterim():
		m.Ext = &msgbus.Ext{Status: reply.Ext.Status, Sequence: reply.Ext.Sequence}
	case m.TypedError != nil:
		m.Ext = &msgbus.Ext{}
	}
	if m.Schema == "" && reply.Dialect == msgbus.Ref {
		m.Schema = "application/json"
	}
	return m
}

// errorToPeer answers a remote request that cannot be served. It keeps nothing of
// the request that its source could have made large.
func (r *Relay) errorToPeer(m *msgbus.Message, why *msgbus.Refusal) []byte {
	e := msgbus.Message{
		Version: msgbus.Version, UID: m.UID, Command: m.Command, Epoch: m.Epoch,
		Source: r.opts.Twin, Destinations: []uint32{m.Source}, ReturnQueue: msgbus.WireReplyQueue,
		Expiration: m.Expiration, Retry: m.Retry, Now: r.backlog.Now().Unix(), Error: why.Text,
	}
	if m.Ext != nil {
		e.Ext, e.TypedError = &msgbus.Ext{}, errorOfBus(why)
	}
	return e.AppendWire(nil)
}

func (r *Relay) serviceDialect(cmd string) msgbus.Dialect {
	if msgbus.MatchCommand(r.opts.RefServices, cmd) {
		return msgbus.Ref
	}
	return msgbus.Classic
}

// expiredText is what published daemons say, with the life in seconds: the one
// that was asked for, as far as it was granted.
func (r *Relay) expiredText(e *msgbus.Entry) string {
	life := e.Deadline.Sub(e.Admitted).Round(time.Second)
	if !e.Message.HasAbsoluteExpiration() {
		life = min(e.Message.Lifetime(0), r.opts.MaxLife)
	}
	return fmt.Sprintf("request timeout (expiration reached, %d)", int64(life.Seconds()))
}
