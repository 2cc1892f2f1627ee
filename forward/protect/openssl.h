// The sending side of SRTP by OpenSSL's libcrypto: see openssl.go.
#ifndef EDGED_PROTECT_OPENSSL_H
#define EDGED_PROTECT_OPENSSL_H

#include <stdint.h>

// protect_packet is Go's type packet.
typedef struct {
	uint32_t start, payload, end, roc;
} protect_packet;

typedef struct protect_keys protect_keys;

// protect_start makes libcrypto ready; it reads no configuration file. To be
// called once, before all else. 0: it cannot be used.
int protect_start(void);

const char *protect_version(void);

// protect_gcm and protect_cm make the keys of a profile; NULL: out of memory
// or no such cipher.
protect_keys *protect_gcm(const uint8_t key[16], const uint8_t salt[12]);
protect_keys *protect_cm(const uint8_t key[16], const uint8_t salt[14], const uint8_t auth[20]);
void protect_free(protect_keys *k);

// protect_seal encrypts n packets of buf in place and writes their tags.
// 0: libcrypto has failed.
int protect_seal(protect_keys *k, uint8_t *buf, const protect_packet *packets, int n);

#endif
