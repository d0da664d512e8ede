// Package msgbus is the message on the wire: its fields and limits, the two
// dialects that apps speak, the bytes that a version 1 signature covers, and
// the typed reasons with which a message is refused.
//
// It does no input or output and knows no other package of this project. A
// message is read with [Decode], which is lenient where published programs
// differ (numbers as text, one destination instead of a list) and strict where
// leniency would let two readers see two messages (duplicate keys, keys that
// differ in case only, invalid UTF-8). It is written with [Message.AppendWire]
// for other relays and with [Message.AppendRequest] and [Message.AppendReply] for services and apps.
package msgbus
