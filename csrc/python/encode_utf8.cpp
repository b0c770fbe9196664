#include "encode_utf8.h"

#include <cstring>

namespace fusedrnn::text {
namespace {

constexpr uint64_t kOnes = 0x0101010101010101u, kHighs = 0x8080808080808080u;

// Whether one of eight bytes is "\r" or not ASCII.
bool special(uint64_t eight) {
  const uint64_t x = eight ^ (kOnes * '\r');
  return (eight | ((x - kOnes) & ~x)) & kHighs;
}

// The length of the well-formed sequence at p; 0 where it is cut by the end; -k where the first k
// bytes are the longest beginning of one, or one byte that begins none.
int sequence(const uint8_t* p, size_t n) {
  const uint8_t lead = p[0];
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return -1;
  const int length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  const uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (int k = 1; k < length; k++) {
    if (size_t(k) == n) return 0;
    if (k == 1 ? (p[k] < low || p[k] > high) : (p[k] & 0xC0) != 0x80) return -k;
  }
  return length;
}

bool is_mark(const uint8_t* p) { return p[0] == 0xEF && p[1] == 0xBB && p[2] == 0xBF; }

}  // namespace

void Utf8Cleaner::bad(uint64_t position, uint8_t byte, std::string& out) {
  at_start_ = false;
  if (on_invalid_ == OnInvalid::kError) {
    invalid_ = {position, byte};
  } else if (on_invalid_ == OnInvalid::kReplace) {
    after_return_ = false;  // ignored bytes leave "\r" and "\n" neighbours
    out += "\xEF\xBF\xBD";
  }
}

void Utf8Cleaner::add(const uint8_t* bytes, size_t n, std::string& out) {
  const uint8_t *p = bytes, *end = bytes + n;
  piece_ = bytes;
  if (pending_size_ && p < end) p = add_pending(p, end, out);
  while (p < end && !invalid_) {
    const int length = sequence(p, size_t(end - p));
    if (length > 0) {
      p = add_run(p, end, out);
    } else if (length == 0) {
      pending_size_ = size_t(end - p);
      std::memcpy(pending_, p, pending_size_);
      p = end;
    } else {
      bad(position_ + uint64_t(p - piece_), *p, out);
      p -= length;
    }
  }
  position_ += n;
}

// Completes the sequence that the last piece cut. What waits is the beginning of a well-formed one,
// so where it turns out ill-formed, all of it is and the byte after it is still to be read.
const uint8_t* Utf8Cleaner::add_pending(const uint8_t* p, const uint8_t* end, std::string& out) {
  while (p < end) {
    pending_[pending_size_] = *p;
    const int length = sequence(pending_, pending_size_ + 1);
    if (length < 0) {
      const uint64_t begin = position_ + uint64_t(p - piece_) - pending_size_;
      pending_size_ = 0;
      bad(begin, pending_[0], out);
      return p;
    }
    pending_size_++;
    p++;
    if (length > 0) {
      if (!(at_start_ && length == 3 && is_mark(pending_))) out.append((const char*)pending_, size_t(length));
      at_start_ = after_return_ = false;
      pending_size_ = 0;
      return p;
    }
  }
  return p;
}

// Copies from p, where a well-formed sequence begins, to the first byte that needs a closer look.
const uint8_t* Utf8Cleaner::add_run(const uint8_t* p, const uint8_t* end, std::string& out) {
  if (at_start_ && end - p >= 3 && is_mark(p)) p += 3;
  at_start_ = false;
  const uint8_t* begin = p;
  while (p < end) {
    if (!after_return_ && end - p >= 8) {
      uint64_t eight;
      std::memcpy(&eight, p, 8);
      if (!special(eight)) {
        p += 8;
        continue;
      }
    }
    if (*p == '\r' || (after_return_ && *p == '\n')) {
      out.append((const char*)begin, size_t(p - begin));
      after_return_ = *p == '\r';
      if (after_return_) out += '\n';
      begin = ++p;
      continue;
    }
    const int length = sequence(p, size_t(end - p));
    if (length <= 0) break;
    after_return_ = false;
    p += length;
  }
  out.append((const char*)begin, size_t(p - begin));
  return p;
}

void Utf8Cleaner::finish(std::string& out) {
  if (pending_size_ && !invalid_) bad(position_ - pending_size_, pending_[0], out);
  pending_size_ = 0;
  at_start_ = true;
  after_return_ = false;
  position_ = 0;
}

}  // namespace fusedrnn::text
