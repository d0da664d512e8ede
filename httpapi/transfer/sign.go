package transfer

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"

	"github.com/msgbusd/msgbusd/msgbus"
)

// Path is where transfers are posted.
const Path = "/zbus-transfer"

// ContentType is that of transfers and of their answers: a JSON object a line.
const ContentType = "application/x-ndjson"

// SignatureLength is that of a signature in bytes: the key type's byte (`e` or
// `s`), then the 64 bytes of the scheme, as in version 1.
const SignatureLength = 65

// label names our signature among those that a message may carry (RFC 9421
// section 4.1).
const label = "msgbus"

// The covered components, in their order, as Signature-Input lists them.
const (
	headComponents   = `("@method" "@path" "content-digest" "content-encoding" "content-type" "msgbus-source" "msgbus-destination" "msgbus-epoch" "msgbus-seal")`
	answerComponents = `("@status" "content-digest" "content-type" "msgbus-source" "msgbus-key" "signature";req;key="msgbus")`
)

// What a signature is for, so that none can be taken for one of another kind.
const (
	headTag   = `;tag="msgbus-transfer"`
	answerTag = `;tag="msgbus-answer"`
)

// mostInteger is the largest integer that a structured field can say: 15 digits
// (RFC 8941 section 3.3.1).
const mostInteger = 999_999_999_999_999

// A Signer has a twin's key.
type Signer interface {
	// Sign returns the type byte and 64 bytes of signature.
	Sign(message []byte) []byte
}

// A Head is what the header fields of a transfer say.
type Head struct {
	Source, Destination uint32
	Epoch               string // of the requests in it, 1 to 32 hex digits, or None
	Encoding            string // Identity or Gzip
	Seal                string // of the body, or None
	Digest              Digest // of the body as it is sent
	Created             int64  // unix seconds
	Nonce               string // 22 characters, new for each transfer
}

// NewNonce returns 128 random bits as text.
func NewNonce() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: see crypto/rand
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// Base returns the bytes that the signature of the transfer covers: the
// signature base of RFC 9421 section 2.5.
func (h *Head) Base() []byte {
	b := make([]byte, 0, 768)
	b = appendComponent(b, `"@method"`, http.MethodPost)
	b = appendComponent(b, `"@path"`, Path)
	b = appendComponent(b, `"content-digest"`, h.Digest.Field())
	b = appendComponent(b, `"content-encoding"`, h.Encoding)
	b = appendComponent(b, `"content-type"`, ContentType)
	b = appendComponent(b, `"msgbus-source"`, decimal(h.Source))
	b = appendComponent(b, `"msgbus-destination"`, decimal(h.Destination))
	b = appendComponent(b, `"msgbus-epoch"`, h.Epoch)
	b = appendComponent(b, `"msgbus-seal"`, h.Seal)
	return appendParameters(b, h.parameters())
}

func (h *Head) parameters() string {
	return headComponents + `;created=` + strconv.FormatInt(h.Created, 10) + `;nonce="` + h.Nonce + `";keyid="` + decimal(h.Source) + `"` + headTag
}

// Sign signs the transfer and sets its header fields. It returns the signature,
// which the answer covers.
func (h *Head) Sign(header http.Header, by Signer) (signature []byte) {
	signature = by.Sign(h.Base())
	header.Set("Content-Type", ContentType)
	header.Set("Content-Encoding", h.Encoding)
	header.Set("Content-Digest", h.Digest.Field())
	header.Set("Msgbus-Source", decimal(h.Source))
	header.Set("Msgbus-Destination", decimal(h.Destination))
	header.Set("Msgbus-Epoch", h.Epoch)
	header.Set("Msgbus-Seal", h.Seal)
	header.Set("Signature-Input", label+"="+h.parameters())
	header.Set("Signature", label+"="+sequence(signature))
	return signature
}

// ReadHead reads the header fields of a transfer, and the signature that is yet
// to be verified. Every error is a *msgbus.Refusal with reason Malformed.
func ReadHead(header http.Header) (h *Head, signature []byte, err error) {
	f := fields{header: header}
	h = &Head{
		Source:      f.twin("Msgbus-Source"),
		Destination: f.twin("Msgbus-Destination"),
		Epoch:       f.plain("Msgbus-Epoch", isEpoch),
		Encoding:    f.plain("Content-Encoding", isEncoding),
		Seal:        f.plain("Msgbus-Seal", visible),
		Digest:      f.digest(),
	}
	f.plain("Content-Type", func(s string) bool { return s == ContentType })
	signature = f.signature()
	h.Created, h.Nonce = f.headParameters()
	if f.wrong == "" && f.one("Signature-Input") != label+"="+h.parameters() {
		f.wrong = "Signature-Input"
	}
	return h, signature, f.err()
}

// An AnswerHead is what the status and the header fields of an answer say.
type AnswerHead struct {
	Status  int
	Source  uint32 // the twin that answers
	Key     string // what it offers to seal with, or None
	Digest  Digest
	Created int64  // unix seconds
	Request []byte // the signature of the transfer that it answers
}

// Base returns the bytes that the signature of the answer covers. The
// transfer's signature is among them (RFC 9421 section 2.4), so an answer fits no
// other transfer. The RFC would have the transfer's other components repeated, for
// the sake of schemes in which one signature can fit several messages or keys: in
// ours, as package twin verifies them, none does.
func (h *AnswerHead) Base() []byte {
	b := make([]byte, 0, 768)
	b = appendComponent(b, `"@status"`, strconv.Itoa(h.Status))
	b = appendComponent(b, `"content-digest"`, h.Digest.Field())
	b = appendComponent(b, `"content-type"`, ContentType)
	b = appendComponent(b, `"msgbus-source"`, decimal(h.Source))
	b = appendComponent(b, `"msgbus-key"`, h.Key)
	b = appendComponent(b, `"signature";req;key="msgbus"`, sequence(h.Request))
	return appendParameters(b, h.parameters())
}

func (h *AnswerHead) parameters() string {
	return answerComponents + `;created=` + strconv.FormatInt(h.Created, 10) + `;keyid="` + decimal(h.Source) + `"` + answerTag
}

// Sign signs the answer and sets its header fields.
func (h *AnswerHead) Sign(header http.Header, by Signer) {
	header.Set("Content-Type", ContentType)
	header.Set("Content-Digest", h.Digest.Field())
	header.Set("Msgbus-Source", decimal(h.Source))
	header.Set("Msgbus-Key", h.Key)
	header.Set("Signature-Input", label+"="+h.parameters())
	header.Set("Signature", label+"="+sequence(by.Sign(h.Base())))
}

// ReadAnswer reads the header fields of an answer to the transfer with this
// signature, and the answer's own signature, which is yet to be verified.
func ReadAnswer(status int, header http.Header, request []byte) (h *AnswerHead, signature []byte, err error) {
	f := fields{header: header}
	h = &AnswerHead{
		Status:  status,
		Source:  f.twin("Msgbus-Source"),
		Key:     f.plain("Msgbus-Key", visible),
		Digest:  f.digest(),
		Request: request,
	}
	f.plain("Content-Type", func(s string) bool { return s == ContentType })
	signature = f.signature()
	h.Created = f.answerParameters()
	if f.wrong == "" && f.one("Signature-Input") != label+"="+h.parameters() {
		f.wrong = "Signature-Input"
	}
	return h, signature, f.err()
}

func appendComponent(b []byte, name, value string) []byte {
	b = append(b, name...)
	b = append(b, ": "...)
	b = append(b, value...)
	return append(b, '\n')
}

func appendParameters(b []byte, parameters string) []byte {
	b = append(b, `"@signature-params": `...)
	return append(b, parameters...)
}

func decimal(twin uint32) string { return strconv.FormatUint(uint64(twin), 10) }

// sequence writes bytes as a structured field does (RFC 8941 section 3.3.5).
func sequence(b []byte) string { return ":" + base64.StdEncoding.EncodeToString(b) + ":" }

// parseSequence is the inverse of sequence for n bytes.
func parseSequence(text string, n int) ([]byte, bool) {
	if len(text) != base64.StdEncoding.EncodedLen(n)+2 || text[0] != ':' || text[len(text)-1] != ':' {
		return nil, false
	}
	inner := text[1 : len(text)-1]
	b, err := base64.StdEncoding.Strict().DecodeString(inner)
	return b, err == nil && len(b) == n && !strings.ContainsAny(inner, "\r\n")
}

// fields reads header fields that must be there once, and notes the first that
// is not as it should be.
type fields struct {
	header http.Header
	wrong  string
}

func (f *fields) err() error {
	if f.wrong == "" {
		return nil
	}
	return msgbus.Refuse(msgbus.Malformed, "header field %s is missing, twice there, or not as a transfer has it", f.wrong)
}

func (f *fields) one(name string) string {
	values := f.header.Values(name)
	if len(values) != 1 {
		f.note(name)
		return ""
	}
	return values[0]
}

func (f *fields) note(name string) {
	if f.wrong == "" {
		f.wrong = name
	}
}

func (f *fields) plain(name string, ok func(string) bool) string {
	v := f.one(name)
	if !ok(v) {
		f.note(name)
	}
	return v
}

func (f *fields) twin(name string) uint32 {
	v := f.one(name)
	n, err := strconv.ParseUint(v, 10, 32)
	if err != nil || n == 0 || decimal(uint32(n)) != v {
		f.note(name)
	}
	return uint32(n)
}

func (f *fields) digest() (d Digest) {
	d, ok := ParseDigest(f.one("Content-Digest"))
	if !ok {
		f.note("Content-Digest")
	}
	return d
}

func (f *fields) signature() []byte {
	text, found := strings.CutPrefix(f.one("Signature"), label+"=")
	signature, ok := parseSequence(text, SignatureLength)
	if !found || !ok {
		f.note("Signature")
		return nil
	}
	return signature
}

// headParameters finds the two parameters that only Signature-Input has. All
// else of it is compared with what it must be.
func (f *fields) headParameters() (created int64, nonce string) {
	rest, _ := strings.CutPrefix(f.one("Signature-Input"), label+"="+headComponents+";created=")
	text, rest, _ := strings.Cut(rest, `;nonce="`)
	nonce, _, _ = strings.Cut(rest, `"`)
	if !isNonce(nonce) {
		f.note("Signature-Input")
	}
	return f.created(text), nonce
}

func (f *fields) answerParameters() (created int64) {
	rest, _ := strings.CutPrefix(f.one("Signature-Input"), label+"="+answerComponents+";created=")
	text, _, _ := strings.Cut(rest, ";")
	return f.created(text)
}

func (f *fields) created(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > mostInteger || strconv.FormatInt(n, 10) != text {
		f.note("Signature-Input")
	}
	return n
}

func isNonce(s string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(b) == 16 && len(s) == 22
}

// isEpoch tells whether an epoch may become part of a stored name.
func isEpoch(s string) bool {
	return s == None || len(s) >= 1 && len(s) <= 32 && strings.Trim(s, "0123456789abcdef") == ""
}

func isEncoding(s string) bool { return s == Identity || s == Gzip }

// visible tells whether a value can stand in a line of the signature base, and
// arrives as it was sent: blanks at either end are lost on the way.
func visible(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return s != "" && len(s) <= 1024 && strings.Trim(s, " ") == s
}
