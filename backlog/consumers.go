package backlog

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/msgbus"
)

// Services may announce themselves, as docs/extensions.md says, and take requests so
// that they are not lost with them. Such a service is a consumer.

const (
	// consumersStep is how many consumers are looked at in one step, about, and how much
	// is given back in it.
	consumersStep = 256
	giveBackMost  = 100
	giveBackBytes = 1 << 20
	// consumersMost bounds how many are counted in one step.
	consumersMost = 10_000
	// maxConsumer is the length of a consumer's longest name.
	maxConsumer = 64
)

// GiveBack gives requests back to the heads of their queues whose consumers have ended,
// and buries those that come back the third time. It looks at some consumers, the next
// ones each time.
//
// Leases survive neither a step of Redis's clock nor a Redis that was away for longer. So
// for a while after a step it returns a *msgbus.HeldError, and at any time a consumer has
// to stay without a lease for the grace: one that lives renews it in half of that. Then, in
// the same step and once, the request is pushed that publishes its end: event returns that,
// or nil for none.
func (s *Store) GiveBack(ctx context.Context, event func(consumer, cmd string) []byte) (msgbus.GivenBack, error) {
	from := s.consumersFrom.Load()
	members, next, err := s.scanConsumers(ctx, from)
	if err != nil {
		return msgbus.GivenBack{}, fmt.Errorf("list the consumers: %w", translate(err))
	}
	given := msgbus.GivenBack{}
	if len(members) > 0 {
		if given, err = s.giveBack(ctx, members, event); err != nil {
			return given, err
		}
	}
	if !given.More {
		s.consumersFrom.Store(next)
		given.More = next != 0
	}
	return given, nil
}

// scanConsumers reads some members of the consumers, and tells where to go on.
func (s *Store) scanConsumers(ctx context.Context, from uint64) (members []string, next uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	page, next, err := s.rdb.ZScan(ctx, s.keys.consumers(), from, "", consumersStep).Result()
	for i := 0; i < len(page); i += 2 { // with their scores
		members = append(members, page[i])
	}
	return members, next, err
}

func (s *Store) giveBack(ctx context.Context, members []string, event func(consumer, cmd string) []byte) (msgbus.GivenBack, error) {
	poison := msgbus.Refuse(msgbus.Poison, "three services ended, or were stopped, while they had this request")
	malformed := msgbus.Refuse(msgbus.Malformed, "the service ended that had taken this, and it is no message that could be counted")
	keys := []string{s.keys.consumers(), s.keys.served(), s.keys.dead(), s.keys.queue(msgbus.LocalQueue)}
	args := []any{giveBackMost, giveBackBytes, s.bounds.Load().MaxDead,
		string(poison.Reason), poison.Text, string(malformed.Reason), malformed.Text, s.opts.Grace.Milliseconds()}
	for _, member := range members {
		consumer, cmd, ok := parseConsumer(member) // of what is none these are "", and it has nothing
		var gone []byte
		if ok {
			gone = event(consumer, cmd)
		}
		keys = append(keys, s.keys.consumer(consumer), s.keys.taken(consumer, cmd), s.keys.command(cmd))
		args = append(args, member, gone)
	}
	result, err := s.expiring(ctx, s.scripts.giveBack, keys, args...).StringSlice()
	if err != nil {
		return msgbus.GivenBack{}, fmt.Errorf("give back what services had taken: %w", err)
	}
	returned, err := strconv.Atoi(result[0])
	if err != nil {
		return msgbus.GivenBack{}, fmt.Errorf("give back what services had taken: unexpected number: %w", err)
	}
	given := msgbus.GivenBack{Returned: returned, More: result[1] != ""}
	for i := 2; i+1 < len(result); i += 2 {
		why := poison
		if result[i] != string(poison.Reason) {
			why = malformed
		}
		given.Buried = append(given.Buried, msgbus.Buried{Why: why, Message: result[i+1]})
	}
	if returned > 0 {
		s.opts.Observer.RequestsReturned(returned)
	}
	return given, nil
}

// parseConsumer reads a member of the consumers. What no service may write is none.
func parseConsumer(member string) (consumer, cmd string, ok bool) {
	consumer, cmd, _ = strings.Cut(member, " ")
	notName := func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-'
	}
	if consumer == "" || len(consumer) > maxConsumer || strings.ContainsFunc(consumer, notName) ||
		cmd == "" || len(cmd) > msgbus.MaxCommandLength || msgbus.ReservedCommand(cmd) {
		return "", "", false
	}
	return consumer, cmd, true
}

// Serving tells who serves some commands, in their order. That a service has ended
// without a word is noticed when its lease is gone and GiveBack has come to it.
func (s *Store) Serving(ctx context.Context, commands []string) ([]msgbus.Service, error) {
	keys, args := []string{s.keys.consumers(), s.keys.served()}, []any{consumersMost}
	distinct := newNumbering[string]()
	for _, cmd := range commands {
		distinct.of(cmd)
	}
	for _, cmd := range distinct.names {
		keys, args = append(keys, s.keys.command(cmd)), append(args, cmd)
	}
	result, err := s.run(ctx, s.scripts.serving, keys, args...).Int64Slice()
	if err == nil && len(result) != 2*len(distinct.names) {
		err = fmt.Errorf("%d elements in a script's answer", len(result))
	}
	if err != nil {
		return nil, fmt.Errorf("find out who serves %d commands: %w", len(commands), err)
	}
	services := make([]msgbus.Service, len(commands))
	for i, cmd := range commands {
		at := 2 * (distinct.of(cmd) - 1)
		services[i] = msgbus.Service{Command: cmd, Announced: int(result[at]), Seen: result[at+1] == 1}
	}
	return services, nil
}

// Commands returns the commands that are served, as [Store.Serving] tells, in the order
// of their names and no more than `most`.
func (s *Store) Commands(ctx context.Context, most int) ([]msgbus.Service, error) {
	names, err := s.servedCommands(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the commands: %w", translate(err))
	}
	var services []msgbus.Service
	for step := range slices.Chunk(names, namesStep) {
		some, err := s.Serving(ctx, step)
		if err != nil {
			return nil, err
		}
		for _, service := range some {
			if service.Serves() && len(services) < most {
				services = append(services, service)
			}
		}
		if len(services) == most {
			break
		}
	}
	return services, nil
}

// servedCommands names the commands that somebody has announced, or has taken from.
func (s *Store) servedCommands(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	pipe := s.rdb.Pipeline()
	live := pipe.ZRangeArgs(ctx, liveConsumers(s.keys))
	served := pipe.ZRevRange(ctx, s.keys.served(), 0, consumersMost-1)
	_, err := pipe.Exec(ctx)
	if err != nil && strings.HasPrefix(err.Error(), "WRONGTYPE") { // check names it
		err = nil
	}
	names := served.Val()
	for _, member := range live.Val() {
		if _, cmd, ok := parseConsumer(member); ok {
			names = append(names, cmd)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), err
}

// liveConsumers asks for the members of the consumers that live.
func liveConsumers(k keys) redis.ZRangeArgs {
	return redis.ZRangeArgs{Key: k.consumers(), Start: "0", Stop: "0", ByScore: true, Count: consumersMost}
}
