package main

import (
	"cmp"
	"net"
	"slices"
	"strings"
)

// sortRoutes puts routes into the order in which they are consulted: the longest path
// first, and of one path those of a host before those of any.
func sortRoutes(routes []Route) {
	slices.SortFunc(routes, func(a, b Route) int {
		return cmp.Or(
			cmp.Compare(len(b.Path), len(a.Path)),
			cmp.Compare(b.Host, a.Host), // "" is the last
			cmp.Compare(a.Path, b.Path),
			cmp.Compare(a.Queue.Twin, b.Queue.Twin),
			cmp.Compare(a.Queue.Name, b.Queue.Name),
		)
	})
}

// matching returns the first route for a request and those that are for the same host and
// path: the queues of one bundle on several twins.
func matching(routes []Route, host, path string) []Route {
	first := slices.IndexFunc(routes, func(r Route) bool { return r.serves(host, path) })
	if first < 0 {
		return nil
	}
	last := first + 1
	for last < len(routes) && routes[last].Host == routes[first].Host && routes[last].Path == routes[first].Path {
		last++
	}
	return routes[first:last]
}

func (r Route) serves(host, path string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if r.Host != "" && !strings.EqualFold(r.Host, host) {
		return false
	}
	root := strings.TrimSuffix(r.Path, "/")
	return path == root || strings.HasPrefix(path, root+"/") // /shop is not the root of /shopping
}
