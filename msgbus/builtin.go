package msgbus

// The commands that every relay serves itself.
const (
	PingCommand      = "msgbus.ping"      // the data of the request comes back
	VersionCommand   = "msgbus.version"   // which msgbusd this is, and of which twin
	CommandsCommand  = "msgbus.commands"  // what is served here
	EventCommand     = "msgbus.event"     // an event, for who listens to its topic
	SubscribeCommand = "msgbus.subscribe" // the asker wants events, for a while
	CancelCommand    = "msgbus.cancel"    // the asker does not want answers any more
)

// CancelTopic is the topic of the event that a cancellation is to services.
const CancelTopic = "msgbus/cancel"

// IsBuiltin tells whether the relay itself serves a command.
func IsBuiltin(cmd string) bool {
	return IsQuestion(cmd) || cmd == EventCommand || cmd == SubscribeCommand || cmd == CancelCommand
}

// IsQuestion tells whether a command of the relay itself does nothing but answer.
func IsQuestion(cmd string) bool {
	return cmd == PingCommand || cmd == VersionCommand || cmd == CommandsCommand
}

// IsFleeting tells whether a request is not worth a dead letter when it cannot be
// delivered: an event that is lost when nobody listens, or what is said again soon.
func (m *Message) IsFleeting() bool {
	return m.Command == SubscribeCommand || m.Command == EventCommand && (m.Ext == nil || !m.Ext.Durable)
}
