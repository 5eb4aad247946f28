package testbed

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
)

// libraryPath finds the files in what ldd prints.
var libraryPath = regexp.MustCompile(`/\S+`)

// Installed adds programs of this machine, by name or path, at the places where they are
// here, with the libraries that they are linked to. What they load later, such as a plugin, is named as they
// are.
func (im *Image) Installed(names ...string) error {
	if im.installed == nil {
		im.installed = map[string]bool{}
	}
	for _, name := range names {
		path := name
		if !filepath.IsAbs(name) {
			var err error
			if path, err = exec.LookPath(name); err != nil {
				return fmt.Errorf("find a program for the guest: %w", err)
			}
		}
		said, err := exec.Command("ldd", path).CombinedOutput()
		if err != nil {
			return fmt.Errorf("find the libraries of %s: %w: %s", path, err, said)
		}
		for _, file := range append(libraryPath.FindAllString(string(said), -1), path) {
			if err := im.install(file); err != nil {
				return err
			}
		}
	}
	return nil
}

// install adds a file once.
func (im *Image) install(path string) error {
	if im.installed[path] {
		return nil
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("copy a program for the guest: %w", err)
	}
	im.installed[path] = true
	im.File(path, 0o755, content)
	return nil
}
