package main

import "strings"

// The exchanges. TFTP has one, as the document has it, and nothing passes there.
const (
	Configuration   = "configuration"
	Events          = "events"
	HTTPExchange    = "http"
	DHCPExchange    = "dhcp"
	TFTPExchange    = "tftp"
	Logging         = "logging"
	TaskGraphRunner = "task-graph-runner"
	SchedulerName   = "scheduler"
	Task            = "task"
)

// An Event is one key of an exchange that is published to whoever listens. In Key, what
// stands in brackets is a word of each message's own.
type Event struct {
	Exchange string
	Key      string
	// Durable: it is kept for those whose relay is down, and in the stream of its
	// exchange. Others are lost when nobody listens.
	Durable bool
}

// Topic is the topic of one message, with words in the place of the brackets. `*` is a word
// that stands for any one in a pattern.
func (e Event) Topic(words ...string) string { return e.Exchange + "/" + fill(e.Key, words) }

// Pattern is for all messages of the key.
func (e Event) Pattern() string { return e.Exchange + "/" + e.anyKey() }

// anyKey is the key with `*` for all words in brackets. It stands for exactly one word each:
// `run.*` is not for `run.snmp.command.17`.
func (e Event) anyKey() string {
	words := strings.Split(e.Key, ".")
	for i, w := range words {
		if strings.HasPrefix(w, "[") {
			words[i] = "*"
		}
	}
	return strings.Join(words, ".")
}

// A Method is one key of an exchange that is asked and answers.
type Method struct {
	Exchange string
	Key      string
}

// Command is the method's name on the bus, such as dhcp.methods.pinIp.
func (m Method) Command(words ...string) string { return m.Exchange + "." + fill(m.Key, words) }

// fill puts words in the place of the brackets of a key. Without a word for it a bracket
// stays, and the bus refuses the topic.
func fill(key string, words []string) string {
	parts := strings.Split(key, ".")
	for i, p := range parts {
		if strings.HasPrefix(p, "[") && len(words) > 0 {
			parts[i], words = words[0], words[1:]
		}
	}
	return strings.Join(parts, ".")
}

// What is published. Durable is what somebody's work hangs on: a graph waits for each of its
// tasks, and an alert is what an operator is woken for. The rest is news, of which the next
// says more.
var (
	TftpSucceeded   = Event{Exchange: Events, Key: "tftp.success.[nodeid]"}
	TftpFailed      = Event{Exchange: Events, Key: "tftp.failure.[nodeid]"}
	HTTPResponded   = Event{Exchange: Events, Key: "http.response.[nodeid]"}
	DhcpBound       = Event{Exchange: Events, Key: "dhcp.bind.success.[nodeid]"}
	TaskHasFinished = Event{Exchange: Events, Key: "task.finished.[taskid]", Durable: true}
	GraphHasStarted = Event{Exchange: Events, Key: "graph.started.[graphid]", Durable: true}
	GraphHasEnded   = Event{Exchange: Events, Key: "graph.finished.[graphid]", Durable: true}
	SkuWasAssigned  = Event{Exchange: Events, Key: "sku.assigned.[nodeid]", Durable: true}

	HTTPRespondedToo = Event{Exchange: HTTPExchange, Key: "http.response"}

	ScheduleTask = Event{Exchange: SchedulerName, Key: "schedule", Durable: true}

	RunATask     = Event{Exchange: Task, Key: "run.[taskid]", Durable: true}
	CancelATask  = Event{Exchange: Task, Key: "cancel.[taskid]", Durable: true}
	AskIpmi      = Event{Exchange: Task, Key: "ipmi.command.[command].[graphid]"}
	IpmiAnswered = Event{Exchange: Task, Key: "ipmi.command.[command].result.[graphid]"}
	AskSnmp      = Event{Exchange: Task, Key: "run.snmp.command.[graphid]"}
	SnmpAnswered = Event{Exchange: Task, Key: "snmp.command.result.[graphid]"}
	PollerAlerts = Event{Exchange: Task, Key: "poller.alert.[graphid]", Durable: true}

	// HeartBeat is not in the document; the code has it.
	HeartBeat = Event{Exchange: Events, Key: "heartbeat.updated.information.[host].[name]"}
)

// What is asked.
var (
	SetConfiguration = Method{Configuration, "methods.set"}
	GetConfiguration = Method{Configuration, "methods.get"}

	LookupIPLease   = Method{DHCPExchange, "methods.lookupIpLease"}
	IPInRange       = Method{DHCPExchange, "methods.ipInRange"}
	PeekLeaseTable  = Method{DHCPExchange, "methods.peekLeaseTable"}
	RemoveLease     = Method{DHCPExchange, "methods.removeLease"}
	RemoveLeaseByIP = Method{DHCPExchange, "methods.removeLeaseByIp"}
	PinMAC          = Method{DHCPExchange, "methods.pinMac"}
	UnpinMAC        = Method{DHCPExchange, "methods.unpinMac"}
	PinIP           = Method{DHCPExchange, "methods.pinIp"}
	UnpinIP         = Method{DHCPExchange, "methods.unpinIp"}

	GetTaskGraphLibrary    = Method{TaskGraphRunner, "methods.getTaskGraphLibrary"}
	GetTaskLibrary         = Method{TaskGraphRunner, "methods.getTaskLibrary"}
	GetActiveTaskGraph     = Method{TaskGraphRunner, "methods.getActiveTaskGraph"}
	GetActiveTaskGraphs    = Method{TaskGraphRunner, "methods.getActiveTaskGraphs"}
	DefineTaskGraph        = Method{TaskGraphRunner, "methods.defineTaskGraph"}
	DefineTask             = Method{TaskGraphRunner, "methods.defineTask"}
	RunTaskGraph           = Method{TaskGraphRunner, "methods.runTaskGraph"}
	CancelTaskGraph        = Method{TaskGraphRunner, "methods.cancelTaskGraph"}
	PauseTaskGraph         = Method{TaskGraphRunner, "methods.pauseTaskGraph"}
	ResumeTaskGraph        = Method{TaskGraphRunner, "methods.resumeTaskGraph"}
	GetTaskGraphProperties = Method{TaskGraphRunner, "methods.getTaskGraphProperties"}

	RequestProfile     = Method{Task, "methods.requestProfile.[id]"}
	RequestProperties  = Method{Task, "methods.requestProperties.[id]"}
	RequestCommands    = Method{Task, "methods.requestCommands.[id]"}
	RespondCommands    = Method{Task, "methods.respondCommands.[id]"}
	GetBootProfile     = Method{Task, "methods.getBootProfile.[nodeid]"}
	ActiveTaskExists   = Method{Task, "methods.activeTaskExists.[nodeId]"}
	RequestPollerCache = Method{Task, "methods.requestPollerCache"}

	// CallIpmi is the pair of AskIpmi and IpmiAnswered as one question.
	CallIpmi = Method{Task, "ipmi.command.[command]"}
)

// A Level says how grave a log entry is; it is the entry's key.
type Level string

// The levels, the gravest first. The document has no `crit`.
const (
	Emerg   Level = "emerg"
	Alert   Level = "alert"
	Failure Level = "error"
	Warning Level = "warning"
	Notice  Level = "notice"
	Info    Level = "info"
	Debug   Level = "debug"
	Silly   Level = "silly"
)

// Levels are all levels, the gravest first.
func Levels() []Level { return []Level{Emerg, Alert, Failure, Warning, Notice, Info, Debug, Silly} }

// LogEntries is the key of a level. Entries are kept: the latest 10,000 or a few more.
func LogEntries(l Level) Event { return Event{Exchange: Logging, Key: string(l), Durable: true} }
