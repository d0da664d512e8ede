package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/internal/fleettest"
	"github.com/redis/go-redis/v9"
)

// Round trips of ordinary apps, each with a RPUSH and a BLPOP of its own, over
// two relays with two real Redis servers on this machine, 64 bytes of data,
// sr25519:
//
//	go test -run '^$' -bench RoundTrips -benchtime 5s ./test/e2e
func BenchmarkRoundTrips(b *testing.B) {
	for _, outstanding := range []int{1, 16, 128, 512} {
		b.Run(fmt.Sprintf("outstanding=%d", outstanding), func(b *testing.B) { benchRoundTrips(b, outstanding) })
	}
}

func benchRoundTrips(b *testing.B, outstanding int) {
	f := fleettest.New(b)
	asker, server := f.Site(1001), f.Site(1002)
	asker.Start("--log-level", "info")
	server.Start("--log-level", "info")
	apps := redis.NewClient(&redis.Options{Addr: asker.Redis.Addr(), PoolSize: outstanding + 8, ReadTimeout: time.Minute})
	services := redis.NewClient(&redis.Options{Addr: server.Redis.Addr(), PoolSize: 64, ReadTimeout: time.Minute})
	ctx, stop := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	for range 16 {
		serving.Go(func() { benchEcho(ctx, services) })
	}
	b.Cleanup(func() {
		stop()
		serving.Wait()
		_ = apps.Close()
		_ = services.Close()
	})

	var left atomic.Int64
	left.Store(int64(b.N))
	var asking sync.WaitGroup
	data := fleettest.Encode(strings.Repeat("x", 64))
	b.ResetTimer()
	for app := range outstanding {
		asking.Go(func() {
			ret := fmt.Sprintf("bench-%d", app)
			for left.Add(-1) >= 0 {
				request := `{"ver":1,"uid":"","cmd":"echo","exp":60,"try":3,"dat":"` + data + `","src":0,"dst":[1002],"ret":"` + ret + `","shm":"","now":0,"err":""}`
				if err := apps.RPush(ctx, "msgbus.system.local", request).Err(); err != nil {
					b.Error(err)
					return
				}
				reply, err := apps.BLPop(ctx, time.Minute, ret).Result()
				if err != nil || !strings.Contains(reply[1], `"err":""`) {
					b.Errorf("no answer: %v %q", err, reply)
					return
				}
			}
		})
	}
	asking.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "roundtrips/s")
}

// benchEcho serves with as little work as possible: the request is the reply,
// with src and dst exchanged.
func benchEcho(ctx context.Context, rdb *redis.Client) {
	turnRound := strings.NewReplacer(`"src":1001,"dst":[1002]`, `"src":1002,"dst":[1001]`)
	for ctx.Err() == nil {
		request, err := rdb.BLPop(ctx, time.Second, "msgbus.echo").Result()
		if err == nil {
			rdb.RPush(ctx, "msgbus.system.reply", turnRound.Replace(request[1]))
		}
	}
}
