package bootentry_test

import (
	"testing"

	"github.com/antievilmaid/aem/internal/bootentry"
)

// Ubuntu's configuration gives the kernel an option that depends on the graphics
// hardware where GRUB was started by a BIOS.
const ubuntu = `
function gfxmode {
	set gfxpayload="${1}"
	if [ "${1}" = "keep" ]; then
		set vt_handoff=vt.handoff=7
	else
		set vt_handoff=
	fi
}
if [ "${recordfail}" != 1 ]; then
  if [ -e ${prefix}/gfxblacklist.txt ]; then
    if [ ${grub_platform} != pc ]; then
      set linux_gfx_mode=keep
    elif hwmatch ${prefix}/gfxblacklist.txt 3; then
      if [ ${match} = 0 ]; then
        set linux_gfx_mode=keep
      else
        set linux_gfx_mode=text
      fi
    else
      set linux_gfx_mode=text
    fi
  else
    set linux_gfx_mode=keep
  fi
else
  set linux_gfx_mode=text
fi
export linux_gfx_mode
menuentry Ubuntu {
	gfxmode $linux_gfx_mode
	linux /k ro quiet splash $vt_handoff
}
menuentry Recovery {
	linux /k ro recovery
}
`

func TestUbuntu(t *testing.T) {
	menu := func(platform string, files map[string]string) *bootentry.Menu {
		files["grub/grub.cfg"] = ubuntu
		return read(t, bootentry.Options{Filesystems: []bootentry.Filesystem{boot(with(files, "k"))}, Platform: platform})
	}
	list := map[string]string{"grub/gfxblacklist.txt": ""}
	for platform, m := range map[string]*bootentry.Menu{"efi": menu("efi", list), "pc": menu("pc", map[string]string{})} {
		if m.Entries[0].Err != nil {
			t.Fatalf("%s: %v", platform, m.Entries[0].Err)
		}
		same(t, platform, "BOOT_IMAGE=/k ro quiet splash vt.handoff=7", m.Entries[0].Kernel.Line)
	}
	m := menu("pc", list)
	refused(t, m.Entries[0].Err, "hwmatch")
	if m.Entries[1].Err != nil {
		t.Error(m.Entries[1].Err)
	}
}
