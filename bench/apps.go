package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// A result is what msgbusd bench --json prints, as far as it is needed here.
type result struct {
	RoundTrips float64 `json:"round_trips_per_second"`
	Answered   int64   `json:"answered"`
	Latency    struct {
		P50 float64 `json:"p50"`
		P99 float64 `json:"p99"`
	} `json:"latency_ms"`
}

// ask runs apps at the asker's Redis.
func (p *pair) ask(ctx context.Context, l setting, duration time.Duration) (result, time.Duration, error) {
	cmd := exec.CommandContext(ctx, p.program, "bench", "--json", "--redis", p.rdb[0].Options().Addr, "--dst", strings.Trim(strings.ReplaceAll(fmt.Sprint(p.asked), " ", ","), "[]"),
		"--apps", string(l.apps), "--outstanding", strconv.Itoa(l.outstanding), "--size", strconv.Itoa(l.size), "--duration", duration.String())
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	cmd.SysProcAttr = endsWithParent()
	var r result
	if err := cmd.Run(); err != nil {
		return r, 0, fmt.Errorf("apps: %w: %s%s", err, out.Bytes(), said.Bytes())
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		return r, 0, fmt.Errorf("read what apps say: %w", err)
	}
	return r, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
}

// askDead has requests wait, shared out among the twins that are not there, and
// returns when the relay has taken them over.
func (p *pair) askDead(ctx context.Context, dead, waiting int) error {
	const atOnce = 1000
	next := 0
	for next < waiting {
		requests := make([]any, min(atOnce, waiting-next))
		for i := range requests {
			requests[i] = fmt.Sprintf(`{"ver":1,"cmd":"bench","exp":7200,"try":1000,"dat":%q,"dst":[%d],"ret":"bench-dead","now":0}`, deadData, firstDead+next%dead)
			next++
		}
		if err := p.rdb[0].RPush(ctx, "msgbus.system.local", requests...).Err(); err != nil {
			return fmt.Errorf("ask twins that are not there: %w", err)
		}
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		admitted, err := p.rdb[0].HLen(ctx, "msgbus.system.backlog").Result()
		if err != nil || admitted >= int64(waiting) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// deadData are 64 bytes.
var deadData = base64.StdEncoding.EncodeToString(make([]byte, 64))

// commands returns how many commands both Redis servers have handled.
func (p *pair) commands(ctx context.Context) (sum float64, err error) {
	for _, rdb := range p.rdb {
		info, err := rdb.InfoMap(ctx, "stats").Result()
		if err != nil {
			return 0, err
		}
		n, err := strconv.ParseFloat(info["Stats"]["total_commands_processed"], 64)
		if err != nil {
			return 0, errors.New("redis does not tell how many commands it has handled")
		}
		sum += n
	}
	return sum, nil
}
