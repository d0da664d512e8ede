package msgbus_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"

	"github.com/msgbusd/msgbusd/msgbus"
)

// A new reason that nobody adds to Known would be `other` in the metrics, and an
// operator would look for it in vain.
func TestEachReasonIsKnownAndNoOther(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "reason.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); !ok || kind.Name != "Reason" {
			return true
		}
		word, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		found++
		if !msgbus.Reason(word).Known() {
			t.Errorf("%s (%q) is not known", spec.Names[0], word)
		}
		return true
	})
	if found < 40 {
		t.Errorf("only %d reasons were found in reason.go", found)
	}
	for _, r := range []msgbus.Reason{"", "made_up", "Expired"} {
		if r.Known() {
			t.Errorf("%q is known", r)
		}
	}
}
