// The text encoder under the sanitizers: however a text is cut and however small the limit, the same
// indices; no byte is read or written outside, whatever the bytes.
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "../../csrc/python/encode.h"

namespace {

using namespace fusedrnn::text;

const char* const kParts[] = {"a",
                              "Bc",
                              " ",
                              "\n",
                              "\r",
                              "\r\n",
                              "-",
                              "\xC3\xA9",
                              "\xC2\x85",
                              "\xE2\x80\x83",
                              "\xE3\x81\x82",
                              "\xFF",
                              "\x80",
                              "\xE2\x80",
                              "\xF0\x9F",
                              "\xF0\x9F\x98\x80",
                              "\xED\xA0",
                              "\xEF\xBB\xBF"};

std::string random_text(std::mt19937& random) {
  std::string text;
  for (unsigned n = random() % 40; n; n--) text += kParts[random() % std::size(kParts)];
  if (random() % 8 == 0) text.insert(text.size() / 2, 70000, 'x');  // longer than a block
  return text;
}

// Each piece in memory of its own, so that a byte read behind it is found.
std::string encode(Encoder& encoder, const std::string& text, std::mt19937& random, uint64_t limit, bool cut) {
  std::string out;
  for (size_t begin = 0; begin < text.size();) {
    const size_t n =
        cut ? std::min<size_t>(text.size() - begin, 1 + random() % 9 * (1 + random() % 9000)) : text.size();
    const std::vector<uint8_t> piece(text.begin() + long(begin), text.begin() + long(begin + n));
    encoder.feed(piece.data(), piece.size(), limit);
    out += encoder.output();
    begin += n;
  }
  do {
    encoder.finish(limit);
    out += encoder.output();
  } while (encoder.waiting());
  return out;
}

bool same(const Encoder& a, const Encoder& b) {
  return a.tokens() == b.tokens() && a.unknown() == b.unknown() && a.tokens_read == b.tokens_read &&
         a.tokens_unknown == b.tokens_unknown && a.characters_read == b.characters_read &&
         a.words_read == b.words_read && a.invalid().has_value() == b.invalid().has_value();
}

int run() {
  std::mt19937 random(1);
  const std::vector<std::string> known = {"<unk>", "a", "c", " ", "\n", "\xC3\xA9", "aBc", "<eos>"};
  int failed = 0, cases = 0;
  for (int i = 0; i < 3000; i++) {
    const bool learn = random() % 2;
    EncoderSettings settings{};
    settings.unit = random() % 2 ? Unit::kWord : Unit::kCharacter;
    settings.letters = random() % 2;
    settings.on_invalid = OnInvalid(random() % 3);
    settings.on_unknown = OnUnknown(random() % 3);
    settings.line_end = random() % 2 ? "<eos>" : "";
    settings.learn = learn;
    settings.width = learn ? 4 : 1 << random() % 3;
    const std::string text = random_text(random);
    Encoder whole(settings, learn ? std::vector<std::string>() : known), cut = Encoder(settings, whole.tokens());
    const uint64_t limits[] = {UINT64_MAX, 100000, 2000};
    const uint64_t limit = text.size() > 1000 ? limits[random() % 3] : 1 + random() % 5;
    const std::string expected = encode(whole, text, random, UINT64_MAX, false);
    const std::string got = encode(cut, text, random, limit, true);
    const bool stopped = whole.invalid().has_value();  // what came before the bad byte may differ
    if (stopped ? !cut.invalid() || cut.invalid()->position != whole.invalid()->position
                : got != expected || !same(whole, cut)) {
      std::printf("case %d: cut pieces gave other indices\n", i);
      failed++;
    }
    cases++;
  }
  std::printf("%d passed, %d failed\n", cases - failed, failed);
  return failed != 0;
}

}  // namespace

int main() { return run(); }
