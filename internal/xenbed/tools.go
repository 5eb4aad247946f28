package xenbed

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/antievilmaid/aem/internal/testbed"
)

// FindTools finds the files of Xen's toolstack that scripts/fetch-xen-tools put under
// build/xen-tools, and the folder in them where its programs lie.
func FindTools() (root, programs string, err error) {
	module, err := testbed.ModuleRoot()
	if err != nil {
		return "", "", err
	}
	root = filepath.Join(module, "build", "xen-tools", "root")
	found, _ := filepath.Glob(filepath.Join(root, "usr", "lib", "xen-*.*", "bin"))
	if len(found) != 1 {
		return "", "", errors.New("there is no toolstack of Xen for the guests; scripts/fetch-xen-tools fetches it")
	}
	return root, found[0], nil
}

// multiarch is where Debian keeps libraries, in the initramfs as well as here.
const multiarch = "lib/x86_64-linux-gnu"

// libraryFolders are where libraries are looked for: among Xen's, and on this machine.
func libraryFolders(root string) []string {
	return []string{
		filepath.Join(root, "usr", multiarch), filepath.Join(root, multiarch),
		"/usr/" + multiarch, "/" + multiarch, "/usr/" + multiarch + "/swtpm",
	}
}

// AddProgram adds a dynamically linked program of this machine, or Xen's, with the libraries that
// it needs. Libraries that others need too are added once.
func AddProgram(image *testbed.Image, name, from string) error {
	root, _, err := FindTools()
	if err != nil {
		return err
	}
	image.CopyFile(name, 0o755, from)
	return addLibraries(image, from, libraryFolders(root))
}

func addLibraries(image *testbed.Image, file string, folders []string) error {
	f, err := elf.Open(file)
	if err != nil {
		return fmt.Errorf("look for a program's libraries: %w", err)
	}
	defer f.Close()
	needed, err := f.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("look for the libraries of %s: %w", file, err)
	}
	if f.Type == elf.ET_EXEC || f.Type == elf.ET_DYN && f.Section(".interp") != nil {
		needed = append(needed, "ld-linux-x86-64.so.2")
	}
	for _, name := range needed {
		if err := addLibrary(image, name, folders); err != nil {
			return fmt.Errorf("%s needs %w", file, err)
		}
	}
	return nil
}

func addLibrary(image *testbed.Image, name string, folders []string) error {
	to := multiarch + "/" + name
	if image.Has(to) {
		return nil
	}
	for _, dir := range folders {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err != nil {
			continue
		}
		image.CopyFile(to, 0o755, path)
		if strings.HasPrefix(name, "ld-linux") && !image.Has("lib64/"+name) {
			image.Symlink("lib64/"+name, "/"+to)
		}
		return addLibraries(image, path, folders)
	}
	return fmt.Errorf("%s, which is not here", name)
}
