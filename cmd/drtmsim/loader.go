package main

import (
	"encoding/binary"

	"github.com/antievilmaid/aem/drtm"
)

const builtinSize = 4096

// builtinLoader is the image that the emulated CPU hashes where no other is
// given. Its bytes never change: values that were sealed to stay good.
func builtinLoader(p drtm.Platform) []byte {
	image := make([]byte, builtinSize)
	if p == drtm.SKINIT {
		const entry = 16
		binary.LittleEndian.PutUint16(image, entry)
		binary.LittleEndian.PutUint16(image[2:], builtinSize)
		// cli; hlt; jmp to the hlt: were it ever run, it would stop there.
		copy(image[entry:], []byte{0xfa, 0xf4, 0xeb, 0xfd})
	}
	copy(image[32:], "AEM drtmsim: built-in loader, hashed and never executed ("+p.Name()+")")
	return image
}
