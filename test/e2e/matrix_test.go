package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/msgbusd/msgbusd/internal/clienttest"
	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// A site moves to msgbusd, and programs that its users wrote years ago with the
// published clients get no answers, or wrong ones.
func TestPublishedClientsAnswerEachOtherThroughTwoRelays(t *testing.T) {
	t.Parallel()
	programs := clienttest.All(t)
	const requests = 5
	table := []string{fmt.Sprintf("%-10s %-10s %-18s %s", "requester", "service", clienttest.Add, clienttest.Fail)}
	for _, service := range programs {
		f := fleettest.NewOfProcesses(t)
		a, b := f.Site(1001), f.Site(1002)
		a.Launch()
		b.Launch()
		service.Service(t, b.Redis.Port())
		a.Daemon.AwaitReady()
		b.Daemon.AwaitReady()
		for _, requester := range programs {
			sums := requester.Request(t, a.Redis.Port(), b.ID, clienttest.Add, requests)
			good := 0
			for n, got := range sums {
				want := clienttest.Answer{N: n, OK: true, Result: 3*n + 1}
				if got != want {
					t.Errorf("%s asks %s: answer %d is %+v, want %+v", requester.Name, service.Name, n, got, want)
					continue
				}
				good++
			}
			failed := 0
			for _, got := range requester.Request(t, a.Redis.Port(), b.ID, clienttest.Fail, requests) {
				if !got.OK || !strings.Contains(got.Err, "calculator.fail always fails") {
					t.Errorf("%s asks %s to fail: the answer is %+v", requester.Name, service.Name, got)
					continue
				}
				failed++
			}
			table = append(table, fmt.Sprintf("%-10s %-10s %-18s %s", requester.Name, service.Name,
				fmt.Sprintf("%d/%d sums", good, requests), fmt.Sprintf("%d/%d errors", failed, requests)))
		}
	}
	t.Logf("\n%s", strings.Join(table, "\n"))
}
