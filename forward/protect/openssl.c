//go:build linux && (amd64 || arm64 || arm)

// SHA1_Init and its kin are deprecated for EVP, which allocates memory each
// time that a prepared state is copied; they run the same code.
#define OPENSSL_SUPPRESS_DEPRECATED

#include "openssl.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

#if !__GLIBC_PREREQ(2, 38)
// The libcrypto of the cross builds (scripts/libraries) was compiled against a newer C library, whose strtol has this name.
long __isoc23_strtol(const char *s, char **end, int base)
{
	return strtol(s, end, base);
}
#endif

enum { BLOCK = 64, GCM_TAG = 16, CM_TAG = 10 };

struct protect_keys {
	EVP_CIPHER_CTX *cipher;
	int gcm;
	uint8_t salt[16];     // AES-CM: 14 bytes, then zeros
	SHA_CTX inner, outer; // AES-CM: HMAC's states behind the padded key (RFC 2104)
};

static EVP_CIPHER *gcm, *ctr;

int protect_start(void)
{
	if (!OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT, NULL))
		return 0;
	gcm = EVP_CIPHER_fetch(NULL, "AES-128-GCM", NULL);
	ctr = EVP_CIPHER_fetch(NULL, "AES-128-CTR", NULL);
	return gcm != NULL && ctr != NULL;
}

const char *protect_version(void)
{
	return OpenSSL_version(OPENSSL_VERSION_STRING);
}

static protect_keys *new_keys(const EVP_CIPHER *cipher, const uint8_t *key)
{
	protect_keys *k = calloc(1, sizeof *k);
	if (k == NULL)
		return NULL;
	k->cipher = EVP_CIPHER_CTX_new();
	if (k->cipher == NULL || !EVP_EncryptInit_ex2(k->cipher, cipher, key, NULL, NULL)) {
		protect_free(k);
		return NULL;
	}
	return k;
}

protect_keys *protect_gcm(const uint8_t key[16], const uint8_t salt[12])
{
	protect_keys *k = new_keys(gcm, key);
	if (k != NULL) {
		k->gcm = 1;
		memcpy(k->salt, salt, 12);
	}
	return k;
}

protect_keys *protect_cm(const uint8_t key[16], const uint8_t salt[14], const uint8_t auth[20])
{
	protect_keys *k = new_keys(ctr, key);
	if (k == NULL)
		return NULL;
	memcpy(k->salt, salt, 14);
	uint8_t inner[BLOCK], outer[BLOCK];
	memset(inner, 0x36, BLOCK);
	memset(outer, 0x5c, BLOCK);
	for (int i = 0; i < 20; i++) {
		inner[i] ^= auth[i];
		outer[i] ^= auth[i];
	}
	if (!SHA1_Init(&k->inner) || !SHA1_Update(&k->inner, inner, BLOCK) ||
	    !SHA1_Init(&k->outer) || !SHA1_Update(&k->outer, outer, BLOCK)) {
		protect_free(k);
		k = NULL;
	}
	OPENSSL_cleanse(inner, BLOCK);
	OPENSSL_cleanse(outer, BLOCK);
	return k;
}

void protect_free(protect_keys *k)
{
	EVP_CIPHER_CTX_free(k->cipher);
	OPENSSL_cleanse(k, sizeof *k);
	free(k);
}

static void xor(uint8_t *to, const uint8_t *with, int n)
{
	for (int i = 0; i < n; i++)
		to[i] ^= with[i];
}

static void put32(uint8_t to[4], uint32_t v)
{
	to[0] = v >> 24, to[1] = v >> 16, to[2] = v >> 8, to[3] = v;
}

// seal_gcm does one packet (RFC 7714 §8.1).
static int seal_gcm(protect_keys *k, uint8_t *p, int header, int size, const uint8_t roc[4])
{
	uint8_t nonce[12], *tag = p + size - GCM_TAG;
	int n, text = size - header - GCM_TAG;
	memcpy(nonce, k->salt, sizeof nonce);
	xor(nonce + 2, p + 8, 4);  // SSRC
	xor(nonce + 6, roc, 4);
	xor(nonce + 10, p + 2, 2); // sequence number
	return EVP_EncryptInit_ex2(k->cipher, NULL, NULL, nonce, NULL) &&
	       EVP_EncryptUpdate(k->cipher, NULL, &n, p, header) &&
	       (text == 0 || EVP_EncryptUpdate(k->cipher, p + header, &n, p + header, text)) &&
	       EVP_EncryptFinal_ex(k->cipher, tag, &n) &&
	       EVP_CIPHER_CTX_ctrl(k->cipher, EVP_CTRL_AEAD_GET_TAG, GCM_TAG, tag);
}

// seal_cm does one packet (RFC 3711 §4.1.1, §4.2.1).
static int seal_cm(protect_keys *k, uint8_t *p, int header, int size, const uint8_t roc[4])
{
	uint8_t iv[16], sum[SHA_DIGEST_LENGTH];
	int n, text = size - header - CM_TAG;
	memcpy(iv, k->salt, sizeof iv);
	xor(iv + 4, p + 8, 4);  // SSRC
	xor(iv + 8, roc, 4);
	xor(iv + 12, p + 2, 2); // sequence number
	if (!EVP_EncryptInit_ex2(k->cipher, NULL, NULL, iv, NULL) ||
	    (text > 0 && !EVP_EncryptUpdate(k->cipher, p + header, &n, p + header, text)))
		return 0;
	SHA_CTX s = k->inner;
	if (!SHA1_Update(&s, p, header + text) || !SHA1_Update(&s, roc, 4) || !SHA1_Final(sum, &s))
		return 0;
	s = k->outer;
	if (!SHA1_Update(&s, sum, sizeof sum) || !SHA1_Final(sum, &s))
		return 0;
	memcpy(p + size - CM_TAG, sum, CM_TAG);
	return 1;
}

int protect_seal(protect_keys *k, uint8_t *buf, const protect_packet *packets, int n)
{
	for (const protect_packet *q = packets; q < packets + n; q++) {
		uint8_t roc[4], *p = buf + q->start;
		int header = q->payload - q->start, size = q->end - q->start;
		put32(roc, q->roc);
		if (!(k->gcm ? seal_gcm : seal_cm)(k, p, header, size, roc))
			return 0;
	}
	return 1;
}
