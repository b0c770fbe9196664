// What the bytes of clean text (well-formed UTF-8) are: letters, white space, characters.
#pragma once
#include <cstddef>
#include <cstdint>

namespace fusedrnn::text {

// What a byte of clean text can be for the words.
enum : uint8_t { kOfWord, kSpace, kMaybeSpace };

struct ByteClasses {
  uint8_t space[256] = {};
  uint8_t small_letter[256] = {};  // the letter in lower case; 0 for what is none
  constexpr ByteClasses() {
    for (int b : {0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x1C, 0x1D, 0x1E, 0x1F, 0x20}) space[b] = kSpace;
    for (int b : {0xC2, 0xE1, 0xE2, 0xE3}) space[b] = kMaybeSpace;
    for (int k = 0; k < 26; k++) small_letter['A' + k] = small_letter['a' + k] = uint8_t('a' + k);
  }
};
inline constexpr ByteClasses kClasses;

// The length of the white space (that of Python's str.split) at p: 0 where there is none.
inline int space_length(const uint8_t* p) {
  switch (kClasses.space[*p]) {
    case kOfWord:
      return 0;
    case kSpace:
      return 1;
  }
  if (p[0] == 0xC2) return p[1] == 0x85 || p[1] == 0xA0 ? 2 : 0;  // U+0085, U+00A0
  const int last = p[1] << 8 | p[2];
  if (p[0] == 0xE1) return last == 0x9A80 ? 3 : 0;  // U+1680
  if (p[0] == 0xE3) return last == 0x8080 ? 3 : 0;  // U+3000
  const bool space = (last >= 0x8080 && last <= 0x808A) || last == 0x80A8 || last == 0x80A9 || last == 0x80AF ||
                     last == 0x819F;  // U+2000 to U+200A, U+2028, U+2029, U+202F, U+205F
  return space ? 3 : 0;
}

struct CodePoint {
  uint32_t point;
  int length;
};

// The code point at p, in well-formed UTF-8.
inline CodePoint decode(const uint8_t* p) {
  if (p[0] < 0x80) return {p[0], 1};
  if (p[0] < 0xE0) return {uint32_t(p[0] & 0x1F) << 6 | (p[1] & 0x3F), 2};
  if (p[0] < 0xF0) return {uint32_t(p[0] & 0x0F) << 12 | uint32_t(p[1] & 0x3F) << 6 | (p[2] & 0x3F), 3};
  return {uint32_t(p[0] & 0x07) << 18 | uint32_t(p[1] & 0x3F) << 12 | uint32_t(p[2] & 0x3F) << 6 | (p[3] & 0x3F), 4};
}

// The length that the first byte of a character promises.
inline size_t promised_length(uint8_t lead) { return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4; }

}  // namespace fusedrnn::text
