package main

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Channels. What is published to one while nobody listens is lost.
const (
	// Broadcast is pushed to every client that is connected.
	Broadcast = "srv_msg"
	// userChannels begin the channels of one user's clients. The original joins the two
	// with an underscore; a dot makes the user a word of the topic, which patterns know.
	userChannels = "user."
)

// UserChannel is pushed to the clients that have been authenticated as a user, whose
// auth_uid is words of letters, digits, `_` and `-` with dots between them.
func UserChannel(authUID string) string { return userChannels + authUID }

// Actions say what a message is about, and what its consumer does.
const (
	// Debug: the client shows data.message on its console. On any channel.
	ActionDebug = "debug"
	// Kick: the client alerts its user and closes the game session. It has no data.
	// On a user's channel.
	ActionKick = "kick"
	// NodeReady: the client marks a node ready to collect. On a user's channel.
	ActionNodeReady = "node_ready"
	// NewItems: the client adds items. On a user's channel. The document does not have
	// it, the original's code does.
	ActionNewItems = "new_items"
	// Charge: a worker charges a node. In the queue of tasks.
	ActionCharge = "charge"
)

// A Message is what passes on channels and queues, as JSON.
type Message struct {
	Action string `json:"action"`
	// Token is the auth_token of the session that the message is about, "" if there is
	// none.
	Token string `json:"token,omitempty"`
	// Data is a mapping, by action, or null. It is always there.
	Data json.RawMessage `json:"data"`
}

// Debug is the data of a debug message.
type Debug struct {
	Message string `json:"message"`
}

// NodeReady is the data of a node_ready message.
type NodeReady struct {
	ID     string          `json:"id"`     // of the game node
	Type   string          `json:"type"`   // of the node, such as ContactPerp
	Path   string          `json:"path"`   // full path of the node, such as some.full.path
	Result json.RawMessage `json:"result"` // depends on the type; see game.go
}

// NewItems is the data of a new_items message.
type NewItems struct {
	Items []Item `json:"items"`
}

// An Item is something that a user has got.
type Item struct {
	ID    string `json:"id"` // the same when the message comes again
	Name  string `json:"name"`
	Count int    `json:"count"`
}

// Charge is the data of a charge message.
type Charge struct {
	ID   string `json:"id"`
	Type string `json:"type"`
	Path string `json:"path"`
}

// NewMessage makes a message of an action with data that goes as JSON; nil is null.
func NewMessage(action string, data any) (Message, error) {
	raw, err := json.Marshal(data)
	if err != nil {
		return Message{}, fmt.Errorf("encode the data of %s: %w", action, err)
	}
	m := Message{Action: action, Data: raw}
	return m, m.Check()
}

// Check tells what a message lacks of what the document asks of its action. An action that
// is not known is for a consumer of a later version: nothing is asked of it.
func (m Message) Check() error {
	switch {
	case m.Action == "":
		return errors.New("a message needs an action")
	case m.Data == nil:
		return fmt.Errorf("%s needs data, be it null", m.Action)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(m.Data, &fields); err != nil {
		return fmt.Errorf("the data of %s is no mapping: %w", m.Action, err)
	}
	for _, name := range dataFields[m.Action] {
		if _, there := fields[name]; !there {
			return fmt.Errorf("the data of %s needs %s", m.Action, name)
		}
	}
	return nil
}

// dataFields are what the data of each action has.
var dataFields = map[string][]string{
	ActionDebug:     {"message"},
	ActionKick:      nil,
	ActionNodeReady: {"id", "type", "path", "result"},
	ActionNewItems:  {"items"},
	ActionCharge:    {"id", "type", "path"},
}

// checkFor is Check for a message that is published on a channel. Only a debug message is
// for everybody: a kick there would end every game.
func (m Message) checkFor(channel string) error {
	if channel == Broadcast && m.isPersonal() {
		return fmt.Errorf("%s is for one user, not for %s", m.Action, Broadcast)
	}
	return m.Check()
}

func (m Message) isPersonal() bool {
	return m.Action == ActionKick || m.Action == ActionNodeReady || m.Action == ActionNewItems
}
