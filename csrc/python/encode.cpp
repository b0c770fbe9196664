#include "encode.h"

#include <algorithm>

#include "encode_bytes.h"

namespace fusedrnn::text {
namespace {

constexpr uint32_t kLastPoint = 0x10FFFF;
constexpr size_t kMostRecorded = 1000;
constexpr size_t kBlock = 1 << 15;

const uint8_t* bytes_of(std::string_view text) { return reinterpret_cast<const uint8_t*>(text.data()); }

bool all_ascii(std::string_view text) {
  uint8_t any = 0;
  for (const char c : text) any |= uint8_t(c);
  return any < 0x80;
}

}  // namespace

void LettersFilter::add(std::string_view text, std::string& out) {
  const size_t before = out.size();
  out.resize(before + text.size() + 2);
  char* p = out.data() + before;
  // Without branches but for line ends: where words end cannot be foretold.
  bool empty = line_is_empty_, waits = space_waits_;
  for (const char c : text) {
    const char letter = char(kClasses.small_letter[uint8_t(c)]);
    const bool is_letter = letter != 0;
    *p = ' ';
    p += is_letter & waits & !empty;
    *p = letter;
    p += is_letter;
    empty &= !is_letter;
    waits = !is_letter;
    if (c == '\n') {
      *p++ = '\n';
      empty = true, waits = false;
    }
  }
  line_is_empty_ = empty, space_waits_ = waits;
  out.resize(size_t(p - out.data()));
}

Encoder::Encoder(const EncoderSettings& settings, const std::vector<std::string>& tokens)
    : settings_(settings), cleaner_(settings.on_invalid) {
  for (const std::string& token : tokens) {
    if (settings.unit == Unit::kWord) {
      words_.find_or_add(token);
      continue;
    }
    if (!token.empty() && token.size() == promised_length(uint8_t(token[0]))) {
      const uint32_t point = decode(bytes_of(token)).point;
      if (point <= kLastPoint) characters_.set(point, int32_t(character_tokens_.size()));
    }
    character_tokens_.push_back(token);
  }
  if (settings.letters) characters_.set('\n', kAbsent);
}

bool Encoder::resumable() const {
  return cleaner_.between_characters() && text_.empty() && word_.empty() && !in_word_ &&
         (!settings_.letters || filter_.at_line_begin());
}

std::vector<std::string> Encoder::tokens() const {
  if (settings_.unit == Unit::kCharacter) return character_tokens_;
  std::vector<std::string> out;
  for (size_t i = 0; i < words_.size(); i++) out.emplace_back(words_.word(i));
  return out;
}

void Encoder::feed(const uint8_t* bytes, size_t n, uint64_t limit) {
  reserve(n);
  const uint64_t last = limit > UINT64_MAX - tokens_read ? UINT64_MAX : tokens_read + limit;
  // In blocks that stay in the core's own cache on their way through the stages.
  do {
    const size_t block = std::min(n, kBlock);
    if (settings_.letters) {
      clean_.clear();
      cleaner_.add(bytes, block, clean_);
      filter_.add(clean_, text_);
    } else {
      cleaner_.add(bytes, block, text_);
    }
    dispatch(false, last - tokens_read);
    bytes += block, n -= block;
  } while (n);
}

// Room for the indices of what waits and of n more bytes. A token takes at least a byte, but for one
// word that began in an earlier piece; a cut sequence may end as three replaced bytes.
void Encoder::reserve(size_t n) {
  const size_t most = (text_.size() + n + 4) * size_t(settings_.width);
  if (most > output_capacity_) {
    output_.reset(new char[most]);
    output_capacity_ = most;
  }
  output_bytes_ = 0;
}

void Encoder::finish(uint64_t limit) {
  reserve(0);
  if (!finishing_) {
    finishing_ = true;
    clean_.clear();
    cleaner_.finish(clean_);
    if (settings_.letters) {
      filter_.add(clean_, text_);
    } else {
      text_ += clean_;
    }
  }
  dispatch(true, limit);
  if (waiting_) return;
  finishing_ = in_word_ = false;
  filter_.begin_line();
}

void Encoder::dispatch(bool end, uint64_t limit) {
  switch (settings_.width) {
    case 1:
      return run<uint8_t>(end, limit);
    case 2:
      return run<uint16_t>(end, limit);
    default:
      return run<uint32_t>(end, limit);
  }
}

template <class Index>
void Encoder::run(bool end, uint64_t limit) {
  Index* const begin = reinterpret_cast<Index*>(output_.get() + output_bytes_);
  Index* out = begin;
  const bool characters = settings_.unit == Unit::kCharacter;
  const size_t read = characters ? run_characters(out, limit) : run_words(out, end, limit);
  count(std::string_view(text_).substr(0, read));
  text_.erase(0, read);
  waiting_ = !text_.empty() || (end && !word_.empty());
  output_bytes_ += size_t(out - begin) * sizeof(Index);
}

template <class Index>
size_t Encoder::run_characters(Index*& out, uint64_t limit) {
  const uint8_t *const begin = bytes_of(text_), *const end = begin + text_.size();
  const uint8_t* p = begin;
  while (p < end && limit) {
    const uint8_t* const stop = p + std::min<uint64_t>(uint64_t(end - p), limit);
    uint64_t tokens = 0;
    while (p < stop) {
      int32_t index = *p < 0x80 ? characters_.ascii(*p) : kAbsent;
      if (index >= 0) {
        *out++ = Index(index);
        p++, tokens++;
        continue;
      }
      if (settings_.letters && *p == '\n') {
        p++;
        continue;
      }
      const CodePoint c = decode(p);
      index = characters_.find(c.point);
      if (index < 0 && settings_.learn) index = learn_character(c.point);
      emit(out, index, {reinterpret_cast<const char*>(p), size_t(c.length)});
      p += c.length, tokens++;
    }
    tokens_read += tokens;
    limit -= tokens;
  }
  return size_t(p - begin);
}

int32_t Encoder::learn_character(uint32_t point) {
  const int32_t index = int32_t(character_tokens_.size());
  characters_.set(point, index);
  std::string token;
  if (point < 0x80) {
    token = {char(point)};
  } else if (point < 0x800) {
    token = {char(0xC0 | point >> 6), char(0x80 | (point & 0x3F))};
  } else if (point < 0x10000) {
    token = {char(0xE0 | point >> 12), char(0x80 | (point >> 6 & 0x3F)), char(0x80 | (point & 0x3F))};
  } else {
    token = {char(0xF0 | point >> 18), char(0x80 | (point >> 12 & 0x3F)), char(0x80 | (point >> 6 & 0x3F)),
             char(0x80 | (point & 0x3F))};
  }
  character_tokens_.push_back(token);
  return index;
}

template <class Index>
size_t Encoder::run_words(Index*& out, bool end_of_document, uint64_t limit) {
  const uint64_t last = limit > UINT64_MAX - tokens_read ? UINT64_MAX : tokens_read + limit;
  const uint8_t *const begin = bytes_of(text_), *const end = begin + text_.size();
  const uint8_t* p = begin;
  while (p < end && tokens_read < last) {
    if (const int space = space_length(p)) {
      if (!word_.empty()) {
        emit_word(out, word_);
        word_.clear();
        continue;  // the limit may be reached
      }
      if (*p == '\n' && !settings_.line_end.empty()) {
        emit_word(out, settings_.line_end);
        words_read--;
      }
      p += space;
      continue;
    }
    const uint8_t* const first = p;
    do {
      do p++;
      while (p < end && kClasses.space[*p] == kOfWord);
    } while (p < end && !space_length(p));
    const std::string_view part(reinterpret_cast<const char*>(first), size_t(p - first));
    if (p == end || !word_.empty()) {
      word_ += part;
    } else {
      emit_word(out, part);
    }
  }
  if (end_of_document && p == end && tokens_read < last && !word_.empty()) {
    emit_word(out, word_);
    word_.clear();
  }
  return size_t(p - begin);
}

template <class Index>
void Encoder::emit_word(Index*& out, std::string_view word) {
  tokens_read++;
  words_read++;
  emit(out, settings_.learn ? words_.find_or_add(word) : words_.find(word), word);
}

template <class Index>
void Encoder::emit(Index*& out, int32_t index, std::string_view token) {
  if (index < 0) {
    tokens_unknown++;
    if (settings_.on_unknown == OnUnknown::kSkip) return;
    if (settings_.on_unknown == OnUnknown::kRecord) record_unknown(token);
    index = 0;
  }
  *out++ = Index(index);
}

void Encoder::record_unknown(std::string_view token) {
  if (unknown_.size() < kMostRecorded && std::find(unknown_.begin(), unknown_.end(), token) == unknown_.end())
    unknown_.emplace_back(token);
}

// Counts characters, and among characters words by their beginnings.
void Encoder::count(std::string_view read) {
  const uint8_t *p = bytes_of(read), *end = p + read.size();
  uint64_t inner = 0, dropped = 0;
  for (const uint8_t* q = p; q < end; q++) inner += (*q & 0xC0) == 0x80;
  if (settings_.unit == Unit::kWord) {
    characters_read += read.size() - inner;
    return;
  }
  if (settings_.letters) dropped = uint64_t(std::count(read.begin(), read.end(), '\n'));
  characters_read += read.size() - inner - dropped;
  if (all_ascii(read)) {
    uint8_t before = in_word_;
    uint64_t begun = 0;
    for (; p < end; p++) {
      const uint8_t now = !(uint8_t(*p - 9) < 5 || uint8_t(*p - 28) < 5);
      begun += now & uint8_t(!before);
      before = now;
    }
    words_read += begun;
    in_word_ = before;
    return;
  }
  while (p < end) {
    const int space = space_length(p);
    words_read += !space && !in_word_;
    in_word_ = !space;
    p += space ? size_t(space) : promised_length(*p);
  }
}

}  // namespace fusedrnn::text
