package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/google/uuid"
)

// The messages of the document, with its names of fields, as JSON.

// What a message is about: the word under `action`.
const (
	ActionEnable      = "enable"       // tron to runner, answered with an ack
	ActionDisable     = "disable"      // tron to runner, answered with an ack
	ActionTronInfo    = "tron-info"    // tron's answer to awake and heartbeat, and an event
	ActionAllBundles  = "all-bundles"  // tron to runners, an event
	ActionAwake       = "awake"        // runner or front end to tron
	ActionDied        = "died"         // runner or front end to tron
	ActionHeartbeat   = "heartbeat"    // runner or front end to tron
	ActionResendAwake = "resend-awake" // tron's answer to the heartbeat of somebody unknown
	ActionAck         = "ack"          // of enable and disable by a runner, of route by a front end
	ActionRoute       = "route"        // tron to front ends, an event
	ActionDie         = "die"          // tron to the older of two front ends
	ActionService     = "service"      // front end to runner
	ActionAnswer      = "answer"       // runner's answer to service
)

// Who an awake is from.
const (
	TypeRunner   = "runner"
	TypeFrontEnd = "frontend"
)

// A Header is what all messages have but service, which has only the action.
type Header struct {
	Action string `json:"action"`
	MsgID  string `json:"msg-id"`
	At     int64  `json:"at"` // Unix milliseconds, by the sender's clock
}

func newHeader(action string) Header {
	return Header{Action: action, MsgID: uuid.NewString(), At: time.Now().UnixMilli()}
}

// A HostPort is where a tron serves what is not on the bus, such as bundles to download.
type HostPort struct {
	Host string `json:"host"`
	Port int    `json:"port"`
}

// Enable has a runner serve a bundle's queue.
type Enable struct {
	Header
	From     string            `json:"from"`
	TronHost HostPort          `json:"tron-host"`
	Props    map[string]string `json:"props"`
	SHA      string            `json:"sha"`
}

// Disable has a runner leave a bundle's queue.
type Disable struct {
	Header
	From     string   `json:"from"`
	TronHost HostPort `json:"tron-host"`
	SHA      string   `json:"sha"`
}

// TronInfo tells where the tron is.
type TronInfo struct {
	Header
	TronHost HostPort `json:"tron-host"`
}

// AllBundles is all bundles that the tron knows.
type AllBundles struct {
	Header
	TronHost HostPort `json:"tron-host"`
	Bundles  []Bundle `json:"bundles"`
}

// A Bundle is functions, named by the SHA of their archive, and where they are on the web.
type Bundle struct {
	SHA  string `json:"sha"`
	Host string `json:"host"` // "" for any
	Path string `json:"path"` // of the bundle's root, such as /shop
}

// Awake tells the tron that somebody is there. Only a front end has an instance id.
type Awake struct {
	Header
	Type       string `json:"type"`
	InstanceID string `json:"instance-id,omitempty"`
	From       string `json:"from"`
}

// Died tells the tron that somebody leaves. Only a front end says its type.
type Died struct {
	Header
	Type string `json:"type,omitempty"`
	From string `json:"from"`
}

// Heartbeat tells the tron that somebody is still there. A runner's has its statistics.
type Heartbeat struct {
	Header
	From       string      `json:"from"`
	Statistics *Statistics `json:"statistics,omitempty"`
}

// Statistics are of a runner since it began. The document has a heading for them and no
// fields; these are ours.
type Statistics struct {
	Requests int64 `json:"requests"`
	Errors   int64 `json:"errors"` // of them, those whose function failed
}

// An Ack acknowledges the message whose msg-id is AckID.
type Ack struct {
	Header
	From  string `json:"from"`
	AckID string `json:"ack-id"`
}

// RouteTable is the message `route`: all routes, in the order in which they are consulted.
type RouteTable struct {
	Header
	Routes []Route `json:"routes"`
}

// A Route says which queue serves what is below a path.
type Route struct {
	Host  string `json:"host"` // "" for any
	Path  string `json:"path"`
	Queue Queue  `json:"queue"`
}

// Die ends the older of two front ends with the same instance id.
type Die struct {
	Header
	InstanceID string `json:"instance-id"`
}

// ServiceRequest is the message `service`: an HTTP request as nginx sees it. ReplyTo and
// ReplyQueue say who has it; the answer goes there as the bus's reply to this request.
type ServiceRequest struct {
	Action            string      `json:"action"`
	Headers           http.Header `json:"headers"`
	Method            string      `json:"method"`
	URIArgs           url.Values  `json:"uri-args"`
	Host              string      `json:"host"`
	ContentType       string      `json:"content-type"`
	RemoteAddr        string      `json:"remote-addr"`
	ServerProtocol    string      `json:"server-protocol"`
	ServerPort        string      `json:"server-port"`
	ServerAddr        string      `json:"server-addr"`
	RemotePort        string      `json:"remote-port"`
	RequestURI        string      `json:"request-uri"`
	RequestID         string      `json:"request-id"`
	Args              string      `json:"args"`
	RemoteUser        string      `json:"remote-user"`
	Request           string      `json:"request"` // the request line
	HTTPReferer       string      `json:"http-referer"`
	HTTPUserAgent     string      `json:"http-user-agent"`
	Scheme            string      `json:"scheme"`
	URI               string      `json:"uri"` // the path
	ReplyTo           string      `json:"reply-to"`
	ReplyQueue        Queue       `json:"reply-queue"`
	BodyBase64Encoded bool        `json:"body-base64-encoded"`
	Body              string      `json:"body"`
}

// Content is the request's body.
func (s *ServiceRequest) Content() ([]byte, error) {
	if !s.BodyBase64Encoded {
		return []byte(s.Body), nil
	}
	content, err := base64.StdEncoding.DecodeString(s.Body)
	if err != nil {
		return nil, fmt.Errorf("decode body: %w", err)
	}
	return content, nil
}

// Answer is the message `answer`.
type Answer struct {
	Header
	RequestID string `json:"request-id"`
	Answer    Result `json:"answer"`
}

// A Result is what a function answers. Its body is base64 in JSON.
type Result struct {
	Headers [][2]string `json:"headers"` // name, value
	Status  int         `json:"status"`
	Body    []byte      `json:"body"`
}

// parse decodes a message that must have an action.
func parse[M any](raw json.RawMessage, action string) (M, error) {
	var m M
	var h Header
	if err := json.Unmarshal(raw, &h); err != nil {
		return m, fmt.Errorf("read message: %w", err)
	}
	if h.Action != action {
		return m, fmt.Errorf("read message: it is %q and not %q", h.Action, action)
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return m, fmt.Errorf("read %s: %w", action, err)
	}
	return m, nil
}
