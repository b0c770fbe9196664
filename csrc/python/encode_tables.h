// Token to index, for characters and for words. Both tables grow as tokens are added.
#pragma once
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace fusedrnn::text {

constexpr int32_t kAbsent = -1;

// Code points in pages of 256, made when first used.
class CharacterTable {
 public:
  CharacterTable() { ascii_.fill(kAbsent); }

  int32_t ascii(uint8_t byte) const { return ascii_[byte]; }
  int32_t find(uint32_t point) const {
    if (point < 128) return ascii_[point];
    const Page* page = pages_[point >> 8].get();
    return page ? (*page)[point & 255] : kAbsent;
  }
  void set(uint32_t point, int32_t index) {
    if (point < 128) {
      ascii_[point] = index;
      return;
    }
    std::unique_ptr<Page>& page = pages_[point >> 8];
    if (!page) {
      page = std::make_unique<Page>();
      page->fill(kAbsent);
    }
    (*page)[point & 255] = index;
  }

 private:
  using Page = std::array<int32_t, 256>;
  std::array<int32_t, 128> ascii_;
  std::array<std::unique_ptr<Page>, 0x110000 / 256> pages_;
};

// Words in one long string, found through open addressing.
class WordTable {
 public:
  WordTable() : slots_(1024) {}

  size_t size() const { return words_.size(); }
  std::string_view word(size_t index) const { return {bytes_.data() + words_[index].begin, words_[index].length}; }
  int32_t find(std::string_view word) const {
    const Slot& slot = slots_[locate(word, hash(word))];
    return slot.index_plus_1 - 1;
  }
  // The index of the word, which is the next one if it is new.
  int32_t find_or_add(std::string_view word) {
    const uint64_t h = hash(word);
    Slot& slot = slots_[locate(word, h)];
    if (slot.index_plus_1) return slot.index_plus_1 - 1;
    slot = {h, int32_t(words_.size()) + 1};
    words_.push_back({bytes_.size(), word.size()});
    bytes_ += word;
    const int32_t index = int32_t(words_.size()) - 1;
    if (2 * words_.size() > slots_.size()) grow();
    return index;
  }

 private:
  struct Slot {
    uint64_t hash;
    int32_t index_plus_1;  // 0: free
  };
  struct Word {
    size_t begin, length;
  };

  static uint64_t hash(std::string_view word) {
    constexpr uint64_t kPrime = 0x9E3779B97F4A7C15u;
    uint64_t h = word.size() * kPrime;
    const char* p = word.data();
    size_t n = word.size();
    for (; n >= 8; p += 8, n -= 8) h = mix(h, load<uint64_t>(p));
    return mix(h, rest(p, n)) * kPrime;
  }
  template <class T>
  static uint64_t load(const char* p) {
    T value;
    std::memcpy(&value, p, sizeof value);
    return value;
  }
  // All of the last n < 8 bytes; some count twice.
  static uint64_t rest(const char* p, size_t n) {
    if (n >= 4) return load<uint32_t>(p) | load<uint32_t>(p + n - 4) << 32;
    return n ? load<uint8_t>(p) | load<uint8_t>(p + n / 2) << 8 | load<uint8_t>(p + n - 1) << 16 : 0;
  }
  static uint64_t mix(uint64_t h, uint64_t value) {
    h = (h ^ value) * 0xD6E8FEB86659FD93u;
    return h ^ (h >> 32);
  }

  // The slot of the word, or the free one where it belongs. At least half of the slots are free.
  size_t locate(std::string_view wanted, uint64_t h) const {
    const size_t mask = slots_.size() - 1;
    for (size_t i = h >> 20 & mask;; i = (i + 1) & mask) {
      const Slot& slot = slots_[i];
      if (!slot.index_plus_1 || (slot.hash == h && word(size_t(slot.index_plus_1 - 1)) == wanted)) return i;
    }
  }
  void grow() {
    std::vector<Slot> old(2 * slots_.size());
    old.swap(slots_);
    const size_t mask = slots_.size() - 1;
    for (const Slot& slot : old) {
      if (!slot.index_plus_1) continue;
      size_t i = slot.hash >> 20 & mask;
      while (slots_[i].index_plus_1) i = (i + 1) & mask;
      slots_[i] = slot;
    }
  }

  std::string bytes_;
  std::vector<Word> words_;
  std::vector<Slot> slots_;
};

}  // namespace fusedrnn::text
