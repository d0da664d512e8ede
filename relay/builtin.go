package relay

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/msgbusd/msgbusd/msgbus"
)

// answerBuiltin answers a request for one of the relay's own commands, with the result of
// those that do something.
func (r *Relay) answerBuiltin(m *msgbus.Message, result string) *msgbus.Message {
	reply := &msgbus.Message{
		Version: msgbus.Version, UID: m.UID, Command: m.Command, Epoch: m.Epoch,
		Source: r.opts.Twin, Destinations: []uint32{m.Source}, ReturnQueue: msgbus.WireReplyQueue,
		Expiration: m.Expiration, Retry: m.Retry, Now: r.backlog.Now().Unix(), Schema: "application/json", Data: result,
	}
	switch m.Command {
	case msgbus.PingCommand:
		reply.Data, reply.Schema = m.Data, m.Schema
	case msgbus.VersionCommand:
		reply.Data = encoded(struct {
			Version string `json:"version"`
			Twin    uint32 `json:"twin"`
		}{r.opts.Version, r.opts.Twin})
	}
	return reply
}

// commandsMost is how many commands are told of.
const commandsMost = 1000

// prepareLists answers who asks what is served.
func (r *Relay) prepareLists(ctx context.Context, arrivals []*arrival) (err error) {
	list := ""
	for _, a := range arrivals {
		if a.refusal != nil || a.Command != msgbus.CommandsCommand {
			continue
		}
		if list == "" {
			if list, err = r.listCommands(ctx, a.message.Source); err != nil {
				return err
			}
		}
		a.result = list
	}
	return nil
}

// listCommands returns what is served here that a twin may call.
func (r *Relay) listCommands(ctx context.Context, twin uint32) (string, error) {
	served, err := r.backlog.Commands(ctx, commandsMost)
	if err != nil {
		return "", err
	}
	type command struct {
		Name     string `json:"name"`
		Services int    `json:"services"` // that have announced themselves
	}
	told := []command{}
	for _, s := range served {
		if r.refuseCommand(twin, s.Command) == nil {
			told = append(told, command{s.Command, s.Announced})
		}
	}
	return encoded(map[string]any{"commands": told}), nil
}

// encoded is a value that JSON can write, as the data of a message.
func encoded(v any) string {
	text, _ := json.Marshal(v)
	return base64.StdEncoding.EncodeToString(text)
}

// answerProxied answers a request from `/zbus-cmd` for one of the relay's own commands. One
// that a crash keeps it from gets an error at its deadline.
func (r *Relay) answerProxied(ctx context.Context, queue string, m *msgbus.Message, result string) error {
	entry, err := r.backlog.Entry(ctx, queue)
	if err != nil {
		return fmt.Errorf("answer %s: %w", m.Command, err)
	}
	return r.answer(ctx, nil, -1, entry, r.answerBuiltin(m, result))
}
