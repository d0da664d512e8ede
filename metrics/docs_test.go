package metrics_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/msgbusd/msgbusd/msgbus"
)

const docs = "../docs/monitoring"

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(docs, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A metric is what is known of one: its type, and of each label the words that it has.
type metric struct {
	kind   string
	labels map[string]map[string]bool
}

var labelPair = regexp.MustCompile(`(\w+)(=~|!=|=)"([^"]*)"`)

// inCode returns the metrics that the code has.
func inCode(t *testing.T) map[string]*metric {
	t.Helper()
	series, types := scrape(t, everything())
	all := make(map[string]*metric)
	for name, kind := range types {
		if strings.HasPrefix(name, "msgbusd_") {
			all[name] = &metric{kind: kind, labels: make(map[string]map[string]bool)}
		}
	}
	for name := range series {
		name, labels, _ := strings.Cut(name, "{")
		m := all[base(name, all)]
		if m == nil {
			continue
		}
		for _, pair := range labelPair.FindAllStringSubmatch(labels, -1) {
			if pair[1] == "le" {
				continue
			}
			if m.labels[pair[1]] == nil {
				m.labels[pair[1]] = make(map[string]bool)
			}
			m.labels[pair[1]][pair[3]] = true
		}
	}
	return all
}

// base is the metric of a series, which of a histogram has several names.
func base(name string, all map[string]*metric) string {
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if m := all[strings.TrimSuffix(name, suffix)]; m != nil && m.kind == "histogram" {
			return strings.TrimSuffix(name, suffix)
		}
	}
	return name
}

// An operator looks a name up and does not find it, or finds one that no relay shows.
func TestTheTableIsOfTheMetricsThatThereAre(t *testing.T) {
	row := regexp.MustCompile("(?m)^\\| `(msgbusd_\\w+)` \\| (\\w+) \\|(.*?)\\| (.+) \\|$")
	word := regexp.MustCompile("`(\\w+)`")
	table := make(map[string]bool)
	all := inCode(t)
	for _, cells := range row.FindAllStringSubmatch(read(t, "README.md"), -1) {
		name := cells[1]
		table[name] = true
		m := all[name]
		if m == nil {
			t.Errorf("%s is in the table, and no relay shows it", name)
			continue
		}
		if m.kind != cells[2] {
			t.Errorf("%s is a %s, and a %s in the table", name, m.kind, cells[2])
		}
		var labels []string
		for _, w := range word.FindAllStringSubmatch(cells[3], -1) {
			labels = append(labels, w[1])
		}
		slices.Sort(labels)
		if got := slices.Sorted(maps.Keys(m.labels)); !slices.Equal(got, labels) {
			t.Errorf("%s has the labels %q, in the table %q", name, got, labels)
		}
	}
	for name := range all {
		if !table[name] {
			t.Errorf("%s is not in the table", name)
		}
	}
}

// Conventions that tools and people rely on: a rate of what is no counter is nonsense.
func TestNamesFollowTheConventions(t *testing.T) {
	for name, m := range inCode(t) {
		if isTotal := strings.HasSuffix(name, "_total"); isTotal != (m.kind == "counter") {
			t.Errorf("%s is a %s", name, m.kind)
		}
		for label := range m.labels {
			if slices.Contains([]string{"twin", "peer", "src", "dst", "cmd", "uid", "address"}, label) {
				t.Errorf("%s has a label %s, of which a fleet has as many as it likes", name, label)
			}
		}
	}
}

var (
	inExpression = regexp.MustCompile(`(msgbusd_\w+)(?:\{([^}]*)\})?`)
	aggregated   = regexp.MustCompile(`by \(([^)]*)\)`)
)

// checkExpression wants each name, label and word of a PromQL expression to be there.
func checkExpression(t *testing.T, where, expr string, all map[string]*metric) (used []string) {
	t.Helper()
	for _, found := range inExpression.FindAllStringSubmatch(expr, -1) {
		name := base(found[1], all)
		m := all[name]
		if m == nil {
			t.Errorf("%s: there is no %s", where, found[1])
			continue
		}
		used = append(used, name)
		for _, pair := range labelPair.FindAllStringSubmatch(found[2], -1) {
			if pair[1] == "instance" || pair[1] == "job" {
				continue
			}
			if m.labels[pair[1]] == nil {
				t.Errorf("%s: %s has no label %s", where, name, pair[1])
				continue
			}
			for _, w := range strings.Split(pair[3], "|") {
				if w != "" && !m.labels[pair[1]][w] && !msgbus.Reason(w).Known() {
					t.Errorf("%s: %s is never %q in %s", where, pair[1], w, name)
				}
			}
		}
	}
	for _, by := range aggregated.FindAllStringSubmatch(expr, -1) {
		for _, label := range strings.Split(by[1], ",") {
			label = strings.TrimSpace(label)
			known := label == "instance" || label == "le"
			for _, name := range used {
				known = known || all[name].labels[label] != nil
			}
			if !known {
				t.Errorf("%s: nothing in it has the label %s", where, label)
			}
		}
	}
	return used
}

// An alert on a name that no relay shows never fires, and nobody notices that it does not.
func TestAlertsAreOnMetricsThatThereAre(t *testing.T) {
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Labels      map[string]string
				Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, "alerts.yml")), &file); err != nil {
		t.Fatal(err)
	}
	all, n := inCode(t), 0
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			n++
			used := checkExpression(t, rule.Alert, rule.Expr, all)
			if len(used) == 0 && !strings.HasPrefix(rule.Expr, "up{") {
				t.Errorf("%s is on nothing of ours: %s", rule.Alert, rule.Expr)
			}
			if rule.Labels["severity"] == "" || rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" {
				t.Errorf("%s does not say how bad it is, what is the matter and what to do", rule.Alert)
			}
		}
	}
	if n < 10 {
		t.Errorf("only %d alerts were read", n)
	}
}

// A panel of the dashboard.
type panel struct {
	Title   string
	Targets []struct{ Expr string }
}

func panels(t *testing.T) []panel {
	t.Helper()
	var file struct{ Panels []panel }
	if err := json.Unmarshal([]byte(read(t, "grafana-dashboard.json")), &file); err != nil {
		t.Fatal(err)
	}
	return file.Panels
}

// An empty panel looks like a quiet relay.
func TestTheDashboardIsOfMetricsThatThereAre(t *testing.T) {
	all := inCode(t)
	shown := make(map[string]bool)
	for _, panel := range panels(t) {
		for _, target := range panel.Targets {
			for _, name := range checkExpression(t, panel.Title, target.Expr, all) {
				shown[name] = true
			}
		}
	}
	for name := range all {
		if !shown[name] {
			t.Errorf("%s is in no panel", name)
		}
	}
}

// What Prometheus does not load at its next start alerts nobody; nor does it show what it
// cannot read.
func TestPrometheusReadsAllOfIt(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool (Debian: prometheus) is not installed")
	}
	check := func(what, input string, args ...string) {
		cmd := exec.Command(promtool, args...)
		cmd.Stdin = strings.NewReader(input)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", what, err, out)
		}
	}
	check("the alerts", "", "check", "rules", filepath.Join(docs, "alerts.yml"))

	answer := httptest.NewRecorder()
	everything().Handler().ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	check("the metrics", answer.Body.String(), "check", "metrics")

	// What stands in the panels, as rules: Grafana fills the variables in.
	variables := strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*")
	type rule struct{ Record, Expr string }
	var rules []rule
	for _, panel := range panels(t) {
		for _, target := range panel.Targets {
			rules = append(rules, rule{fmt.Sprintf("panel:%d", len(rules)), variables.Replace(target.Expr)})
		}
	}
	text, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rules}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "dashboard.yml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	check("the dashboard", "", "check", "rules", file)
}
