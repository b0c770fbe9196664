// Text to token indices: what fusedrnn.text's tokenizers define in plain Python, at the speed of the
// disk. Documents come as bytes in pieces cut anywhere.
//
//   bytes -> Utf8Cleaner -> letters filter (optional) -> characters or words -> table -> indices
#pragma once
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "encode_tables.h"
#include "encode_utf8.h"

namespace fusedrnn::text {

enum class Unit { kCharacter, kWord };
enum class OnUnknown { kZero, kSkip, kRecord };  // kRecord: as kZero, and unknown() names them

struct EncoderSettings {
  Unit unit;
  bool letters;          // the letters filter
  OnInvalid on_invalid;  // bytes that are not UTF-8
  OnUnknown on_unknown;
  std::string line_end;  // word that stands for every line end; empty for none
  bool learn;            // unknown tokens are added to the table
  int width;             // bytes of an index: 1, 2 or 4
};

// Every line with each run of other characters than A-Z and a-z turned into one space, stripped and
// in lower case; takes clean text in pieces cut between characters.
class LettersFilter {
 public:
  void add(std::string_view text, std::string& out);
  void begin_line() { line_is_empty_ = true, space_waits_ = false; }
  bool at_line_begin() const { return line_is_empty_ && !space_waits_; }

 private:
  bool line_is_empty_ = true, space_waits_ = false;
};

class Encoder {
 public:
  // tokens: what has the indices 0, 1, ... In characters, a token of another length matches nothing.
  Encoder(const EncoderSettings& settings, const std::vector<std::string>& tokens);

  // Takes n more bytes of the document and stops after `limit` more tokens; what is left waits for
  // the next call. The indices are in output() until then.
  void feed(const uint8_t* bytes, size_t n, uint64_t limit);
  // Ends the document: its last word is a word. Where waiting() is true afterwards, the limit came
  // first, and finish() is to be called again.
  void finish(uint64_t limit);
  bool waiting() const { return waiting_; }
  // Goes on in the middle of a document where an encoder was `resumable`.
  void begin_inside(uint64_t position) { cleaner_.begin_inside(position); }
  bool resumable() const;

  std::string_view output() const { return {output_.get(), output_bytes_}; }
  std::vector<std::string> tokens() const;  // by index, with those that were learnt
  const std::vector<std::string>& unknown() const { return unknown_; }
  const std::optional<InvalidByte>& invalid() const { return cleaner_.invalid(); }

  uint64_t tokens_read = 0, tokens_unknown = 0;  // skipped tokens were read, too
  uint64_t characters_read = 0, words_read = 0;  // of the filtered text, as far as it was read

 private:
  void reserve(size_t n);
  template <class Index>
  void run(bool end, uint64_t limit);
  template <class Index>
  size_t run_characters(Index*& out, uint64_t limit);
  template <class Index>
  size_t run_words(Index*& out, bool end, uint64_t limit);
  template <class Index>
  void emit_word(Index*& out, std::string_view word);
  template <class Index>
  void emit(Index*& out, int32_t index, std::string_view token);
  void record_unknown(std::string_view token);
  int32_t learn_character(uint32_t point);
  void dispatch(bool end, uint64_t limit);
  void count(std::string_view read);

  EncoderSettings settings_;
  Utf8Cleaner cleaner_;
  LettersFilter filter_;
  CharacterTable characters_;
  std::vector<std::string> character_tokens_;
  WordTable words_;
  std::string clean_;     // of one piece, before the filter
  std::string text_;      // filtered text that is not read yet
  std::string word_;      // the beginning of a word that goes on in the next piece
  bool in_word_ = false;  // for counting words among characters
  bool waiting_ = false, finishing_ = false;
  std::vector<std::string> unknown_;
  std::unique_ptr<char[]> output_;
  size_t output_bytes_ = 0, output_capacity_ = 0;
};

}  // namespace fusedrnn::text
