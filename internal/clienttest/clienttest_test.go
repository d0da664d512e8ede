package clienttest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/msgbusd/msgbusd/internal/clienttest"
	"github.com/msgbusd/msgbusd/internal/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Each published requester must be answered by each published service when
// somebody carries the messages by hand: then what fails with relays between
// them is the relays.
func TestEveryPairAnswersWhenMessagesAreCarriedByHand(t *testing.T) {
	programs := clienttest.All(t)
	for _, requester := range programs {
		for _, service := range programs {
			t.Run(requester.Name+" asks "+service.Name, func(t *testing.T) {
				server := redistest.Start(t)
				service.Service(t, server.Port())
				h := &hand{redis: server.Client(), twin: 7}

				sums := h.request(t, requester, server.Port(), clienttest.Add, 3)
				for n, a := range sums {
					if want := (clienttest.Answer{N: n, OK: true, Result: 3*n + 1}); a != want {
						t.Errorf("answer %d is %+v, want %+v", n, a, want)
					}
				}
				failures := h.request(t, requester, server.Port(), clienttest.Fail, 1)
				if a := failures[0]; !a.OK || !strings.Contains(a.Err, "always fails") {
					t.Errorf("answer of %s is %+v", clienttest.Fail, a)
				}
			})
		}
	}
}

// An answer that is not the sum must not count as one.
func TestUnexpectedAnswerIsNotOK(t *testing.T) {
	for _, requester := range clienttest.All(t) {
		t.Run(requester.Name, func(t *testing.T) {
			server := redistest.Start(t)
			h := &hand{redis: server.Client(), twin: 7, relayError: "destination not found"}
			a := h.request(t, requester, server.Port(), clienttest.Add, 1)[0]
			if want := (clienttest.Answer{Err: "destination not found"}); a != want {
				t.Errorf("answer is %+v, want %+v", a, want)
			}
		})
	}
}

func TestServiceEndsWhenAsked(t *testing.T) {
	for _, p := range clienttest.All(t) {
		t.Run(p.Name, func(t *testing.T) {
			p.Service(t, redistest.Start(t).Port()).Stop()
		})
	}
}

// hand does by hand what a relay does for twin, which talks to itself.
type hand struct {
	redis      *redis.Client
	twin       uint32
	relayError string // instead of the service's reply
	carried    int
}

func (h *hand) request(t *testing.T, p clienttest.Program, port int, cmd string, count int) []clienttest.Answer {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		for range count {
			if err := h.carry(t.Context()); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	answers := p.Request(t, port, h.twin, cmd, count)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return answers
}

// carry takes one request to its service and the reply back.
func (h *hand) carry(ctx context.Context) error {
	request, err := h.take(ctx, "msgbus.system.local")
	if err != nil {
		return err
	}
	ret := request["ret"].(string)
	if h.relayError != "" {
		request["err"] = h.relayError
		return h.give(ctx, ret, request)
	}

	h.carried++
	uid := fmt.Sprintf("%d.%d", h.twin, h.carried)
	request["uid"], request["src"], request["ret"] = uid, h.twin, "msgbus.system.reply"
	if err := h.give(ctx, fmt.Sprintf("msgbus.%s", request["cmd"]), request); err != nil {
		return err
	}
	reply, err := h.take(ctx, "msgbus.system.reply")
	if err != nil {
		return err
	}
	if reply["uid"] != uid {
		return fmt.Errorf("reply to %v, want %v", reply["uid"], uid)
	}
	return h.give(ctx, ret, reply)
}

func (h *hand) take(ctx context.Context, queue string) (map[string]any, error) {
	popped, err := h.redis.BLPop(ctx, time.Minute, queue).Result()
	if errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("nothing comes to %s", queue)
	}
	if err != nil {
		return nil, fmt.Errorf("take from %s: %w", queue, err)
	}
	var message map[string]any
	return message, json.Unmarshal([]byte(popped[1]), &message)
}

func (h *hand) give(ctx context.Context, queue string, message map[string]any) error {
	b, err := json.Marshal(message)
	if err != nil {
		return err
	}
	return h.redis.RPush(ctx, queue, b).Err()
}
