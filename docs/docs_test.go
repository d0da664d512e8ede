// Package docs_test holds the pages of this project to what they say: links lead
// somewhere, and the commands of the pages in this folder do what stands there.
package docs_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

// bin is a folder with msgbusd as it is now.
var bin string

func TestMain(m *testing.M) {
	var err error
	if bin, err = os.MkdirTemp("", "msgbusd-docs-"); err == nil {
		err = build()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "docs:", err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(bin)
		os.Exit(code)
	}))
}

func build() error {
	cmd := exec.Command("go", "build", "-o", filepath.Join(bin, "msgbusd"), "github.com/msgbusd/msgbusd/cmd/msgbusd")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build msgbusd: %w\n%s", err, out)
	}
	return nil
}
