//go:build cgo && linux && (amd64 || arm64 || arm)

package protect

// OpenSSL's libcrypto, linked statically: where the CPU has no AES
// instructions its bitsliced and vector-permute code takes a third of the
// time of Go's generic code, and as constant a one.

/*
#cgo LDFLAGS: -l:libcrypto.a
#cgo noescape protect_seal
#cgo nocallback protect_seal
#include "openssl.h"
*/
import "C"

import (
	"errors"
	"runtime"
	"unsafe"
)

var errOpenSSL = errors.New("libcrypto has failed")

// foreign are the implementations that are not Go's. It is called once.
func foreign() []*Implementation {
	if C.protect_start() == 0 {
		return nil // a libcrypto without these ciphers
	}
	return []*Implementation{{
		Name: "OpenSSL " + C.GoString(C.protect_version()),
		make: map[Profile]func(*sessionKeys) (sealer, error){
			AES128GCM: func(k *sessionKeys) (sealer, error) {
				return newOpenSSL(C.protect_gcm((*C.uint8_t)(&k.key[0]), (*C.uint8_t)(&k.salt[0])))
			},
			AES128CM: func(k *sessionKeys) (sealer, error) {
				return newOpenSSL(C.protect_cm((*C.uint8_t)(&k.key[0]), (*C.uint8_t)(&k.salt[0]), (*C.uint8_t)(&k.auth[0])))
			},
		},
	}}
}

// opensslKeys are the keys of one protector, in C's memory: about 1 KiB, given
// back when the garbage collector finds that the protector is gone.
type opensslKeys struct {
	keys *C.protect_keys
	_    [16]byte // the collector lumps smaller objects without pointers together, and frees them together
}

func newOpenSSL(keys *C.protect_keys) (sealer, error) {
	if keys == nil {
		return nil, errOpenSSL
	}
	o := &opensslKeys{keys: keys}
	runtime.AddCleanup(o, func(keys *C.protect_keys) { C.protect_free(keys) }, keys)
	return o, nil
}

func (o *opensslKeys) seal(buf []byte, packets []packet) error {
	if len(packets) == 0 {
		return nil
	}
	ok := C.protect_seal(o.keys, (*C.uint8_t)(&buf[0]), (*C.protect_packet)(unsafe.Pointer(&packets[0])), C.int(len(packets)))
	runtime.KeepAlive(o)
	if ok == 0 {
		return errOpenSSL
	}
	return nil
}
