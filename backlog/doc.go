// Package backlog is everything that msgbusd keeps in Redis: the queues and the
// claims on them, the backlog of requests, the lanes to other twins, what tells
// a repeat, dead letters and twin records. Every key name and every Lua script
// of the project is here.
//
// A message is always in exactly one place, and each step from one place to the
// next is one script, so that a relay may be killed at any instant:
//
//	<prefix>.system.local ─take─▶ claim ─admit─▶ backlog + lane ─settle─▶ backlog ─answer─▶ <ret>
//	peer ─accept─▶ <prefix>.<cmd> + open record … <prefix>.system.reply ─take─▶ claim ─depart─▶ lane ─settle─▶ gone
//
// All keys that one script touches are passed as KEYS and share the prefix. The
// one exception is an app's own return queue.
//
// Times are Redis's. [Store.Now] is Redis's clock too, carried forward by the
// relay's monotonic one between two readings.
package backlog
