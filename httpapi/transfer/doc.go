// Package transfer is version 2 of the wire between relays: many messages of
// one twin for another in one POST, signed as a whole, and an answer that says
// what became of each.
//
// The conversation:
//
//	POST /zbus-transfer
//	Content-Type: application/x-ndjson
//	Content-Encoding: identity | gzip
//	Content-Digest: sha-256=:…:                 RFC 9530, of the body as it is sent
//	Msgbus-Source: 1001
//	Msgbus-Destination: 1002
//	Msgbus-Epoch: 5218… | none                  of the requests in it
//	Msgbus-Seal: none | key="…", enc=:…:, nonce=:…:
//	Signature-Input: msgbus=("@method" … "msgbus-seal");created=…;nonce="…";keyid="1001";tag="msgbus-transfer"
//	Signature: msgbus=:…:                       RFC 9421, 65 bytes
//
//	{"request":{"ver":1,"uid":"1002.117",…}}
//	{"reply":{"ver":1,"uid":"1001.4",…}}
//
//	200
//	Content-Type: application/x-ndjson
//	Content-Digest: sha-256=:…:
//	Msgbus-Source: 1002
//	Msgbus-Key: none | id="…", key=:…:, until=…  what to seal the next transfers with
//	Signature-Input: msgbus=("@status" … "signature";req;key="msgbus");created=…;keyid="1002";tag="msgbus-answer"
//	Signature: msgbus=:…:
//
//	{"outcome":"accepted"}
//	{"outcome":"later","reason":"queue_full","after":1}
//
// A transfer without messages is a greeting: its answer tells that the peer
// speaks version 2, and the key to seal with. An answer that is not signed says
// nothing of the kind.
//
// One thing has one spelling: both sides build the covered bytes from a fixed
// list and compare, and what they accept is what they would write. The order of
// checks on arrival is: header fields, destination, age, signature (of header
// fields only, so that nothing of a stranger's body is read), then the body's
// digest, its seal, what it expands to, and at last its lines.
//
// testdata/README.md describes the format for other implementations, with
// vectors.
package transfer
