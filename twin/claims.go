package twin

import (
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
)

// claims bounds how often a source is asked on behalf of strangers: in a second,
// and at once, since a slow source must have room left for our own questions.
type claims struct {
	often  *rate.Limiter
	atOnce *semaphore.Weighted
}

func newClaims(most int) claims {
	return claims{rate.NewLimiter(rate.Limit(most), most), semaphore.NewWeighted(int64(most))}
}

// begin tells whether the source may be asked; done must be called after that.
func (c claims) begin(now time.Time) (done func(), ok bool) {
	if !c.atOnce.TryAcquire(1) {
		return nil, false
	}
	if !c.often.AllowN(now, 1) {
		c.atOnce.Release(1)
		return nil, false
	}
	return func() { c.atOnce.Release(1) }, true
}
