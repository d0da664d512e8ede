package backlog

// A numbering gives numbers from 1 to the names that many messages share, such as
// their twin or command. A script gets each name, and the key that belongs to it,
// once, and looks at that key once.
type numbering[T comparable] struct {
	names []T // in the order in which they came
	known map[T]int
}

func newNumbering[T comparable]() *numbering[T] {
	return &numbering[T]{known: make(map[T]int)}
}

// of returns the number of a name, the next one if it is new.
func (n *numbering[T]) of(name T) int {
	if n.known[name] == 0 {
		n.names = append(n.names, name)
		n.known[name] = len(n.names)
	}
	return n.known[name]
}
