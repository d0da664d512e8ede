package metrics

import "github.com/prometheus/client_golang/prometheus"

// browsers are the metrics of the gateway. A user or a topic is in none of them.
type browsers struct {
	connections *prometheus.GaugeVec
	sent, lost  prometheus.Counter
	refused     *prometheus.CounterVec
}

func (m *Metrics) newBrowsers() browsers {
	return browsers{
		connections: m.gauge("msgbusd_browser_connections", "Browsers that are connected.", "kind"),
		sent:        m.counter("msgbusd_browser_events_sent_total", "Events that were given to browsers, each to each."),
		lost:        m.counter("msgbusd_browser_events_lost_total", "Events that browsers did not get because they took others too slowly."),
		refused:     m.counters("msgbusd_browser_refused_total", "What browsers asked for in vain.", "reason"),
	}
}

// BrowserConnected counts a connection that begins.
func (m *Metrics) BrowserConnected(kind string) { m.browsers.connections.WithLabelValues(kind).Inc() }

// BrowserLeft counts one that has ended.
func (m *Metrics) BrowserLeft(kind string) { m.browsers.connections.WithLabelValues(kind).Dec() }

// BrowserRefused counts what a browser did not get.
func (m *Metrics) BrowserRefused(why string) { m.browsers.refused.WithLabelValues(why).Inc() }

// EventsSent counts events that browsers got.
func (m *Metrics) EventsSent(n int) { m.browsers.sent.Add(float64(n)) }

// EventsLost counts events that browsers did not get.
func (m *Metrics) EventsLost(n int) { m.browsers.lost.Add(float64(n)) }
