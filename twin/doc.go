// Package twin answers who is who.
//
// A twin is a number, an account and a place: twin 1002 signs with the key that
// account 5F3s… names, and its relay listens at an address. This package holds
// both halves of that. On our side, an [Identity] is derived once from a secret
// and signs. On the other side, a [Directory] turns a twin's number into a
// [Record] by asking a [Source], [Verify] checks what claims to come from that
// twin, and [Endpoint] with a [Guard] turns what the record says about a place
// into something that is safe to dial.
//
// Start with [NewIdentity], and with [NewDirectory] over [NewSource].
//
// A [Registry] is the other end of a Source: a small server of records, for
// sites that run without a public one, for the demo and for tests.
package twin
