package doctor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/antievilmaid/aem/drtm/txt"
)

// maxJSON bounds the files that are lists of names and numbers.
const maxJSON = 1 << 20

// Save writes the evidence to a folder, which is made where it is not there. A folder
// that holds something already is refused: what is left of another machine would
// be taken for this one's.
func (e *Evidence) Save(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir), 0o700); err != nil {
		return fmt.Errorf("make the folder for the evidence: %w", err)
	}
	old, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("look into the folder for the evidence: %w", err)
	}
	if len(old) > 0 {
		return fmt.Errorf("the folder %s is not empty; name a new one for the evidence", dir)
	}
	if err := os.Mkdir(filepath.Join(dir, folderModules), 0o700); err != nil {
		return fmt.Errorf("make the folder for the evidence: %w", err)
	}
	files := map[string][]byte{fileCPUInfo: e.CPUInfo, fileRegisters: e.Registers, fileHeap: e.Heap, fileLog: e.Log}
	for i, m := range e.Modules {
		files[moduleFile(i)] = m.Head
	}
	lists := map[string]any{fileMissing: e.Missing, fileModules: e.Modules}
	if e.TPM != nil {
		lists[fileTPM] = e.TPM
	}
	if e.Firmware != nil {
		lists[fileFirmware] = e.Firmware
	}
	if e.Xen != nil {
		lists[fileXen] = e.Xen
	}
	for name, v := range lists {
		b, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		files[name] = append(b, '\n')
	}
	for name, b := range files {
		if b == nil {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return fmt.Errorf("write the evidence: %w", err)
		}
	}
	return nil
}

func moduleFile(i int) string { return fmt.Sprintf("%s/%02d.bin", folderModules, i) }

// Load reads evidence from a folder. Files that are absent, broken or too large are
// noted in the evidence, with the reason; an error says that the folder itself can't be
// read.
func Load(dir string) (*Evidence, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the folder with the evidence: %w", err)
	}
	defer root.Close()
	// A root does not let a link lead out of the folder.
	return LoadFS(root.FS()), nil
}

// LoadFS reads evidence from a file system, such as an archive.
func LoadFS(dir fs.FS) *Evidence {
	l := &loader{dir, &Evidence{Missing: map[string]string{}}}
	var missing map[string]string
	if l.list(fileMissing, &missing) {
		// A reason that the collector gave is better than "file does not exist".
		for name, reason := range missing {
			l.Missing[name] = reason
		}
	}
	delete(l.Missing, fileMissing)
	l.CPUInfo = l.file(fileCPUInfo, maxText)
	l.Registers = l.file(fileRegisters, txt.PublicSize)
	l.Heap = l.file(fileHeap, maxHeap)
	l.Log = l.file(fileLog, maxLog)
	l.TPM, l.Firmware, l.Xen = &TPM{}, &Firmware{}, &Xen{}
	if !l.list(fileTPM, l.TPM) {
		l.TPM = nil
	}
	if !l.list(fileFirmware, l.Firmware) {
		l.Firmware = nil
	}
	if !l.list(fileXen, l.Xen) {
		l.Xen = nil
		if l.Missing[fileXen] == errNotThere.Error() {
			delete(l.Missing, fileXen) // most machines run no Xen
		}
	}
	l.modules()
	return l.Evidence
}

type loader struct {
	dir fs.FS
	*Evidence
}

// file reads a file of at most so many bytes.
func (l *loader) file(name string, limit int) []byte {
	b, err := readRegular(l.dir, name, limit)
	if err != nil {
		l.miss(name, err)
		return nil
	}
	return b
}

// readRegular reads a file. What is no plain file, such as a pipe that never ends, is
// not opened.
func readRegular(dir fs.FS, name string, limit int) ([]byte, error) {
	info, err := fs.Stat(dir, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errNotThere
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("it is no plain file")
	case info.Size() > int64(limit):
		return nil, fmt.Errorf("it has %d bytes, and %d are the most", info.Size(), limit)
	}
	f, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err == nil && len(b) > limit {
		err = errTooLong
	}
	return b, err
}

// list reads a JSON file into v and reports whether it could.
func (l *loader) list(name string, v any) bool {
	b := l.file(name, maxJSON)
	if b == nil {
		return false
	}
	if err := json.Unmarshal(b, v); err != nil {
		l.miss(name, fmt.Errorf("it can't be read: %w", err))
		return false
	}
	return true
}

func (l *loader) modules() {
	var list []Module
	if !l.list(fileModules, &list) {
		l.miss(itemModules, errors.New(l.why(fileModules)))
		return
	}
	if len(list) > maxModules {
		l.miss(itemModules, fmt.Errorf("the list has %d modules, and %d are the most", len(list), maxModules))
		list = list[:maxModules]
	}
	for i := range list {
		// The file's name comes from its place, not from the list.
		list[i].Head = l.file(moduleFile(i), maxModule)
	}
	l.Modules = list
}
