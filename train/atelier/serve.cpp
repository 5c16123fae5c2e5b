#include <fmt/format.h>

#include "core/error.h"
#include "train/atelier/commands.h"
#include "train/corpus/text.h"
#include "train/image_side/protocol.h"
#include "train/log.h"

namespace unfurl::train::atelier {

namespace {

constexpr int kLookedAt = 200;  // requests

/// Whether the world knows the words of the first prompts, but for those of their flavors.
class UnknownWords {
 public:
  explicit UnknownWords(const Lexicon& lexicon) : lexicon_(lexicon) {}
  void look(std::string_view prompt) {
    if (seen_ == kLookedAt) return;
    for (const Concept& said : lexicon_.read(prompt)) {
      words_ += said.kind == Concept::Kind::flavor ? 0 : 1;
      unknown_ += said.kind == Concept::Kind::unknown ? 1 : 0;
    }
    if (++seen_ < kLookedAt || 2 * unknown_ <= words_) return;
    warn(
        "the simulated world does not know {:.0f} % of the words of the first {} prompts, which so act as wrong "
        "content; give it the prompts' own with --set words=[FILE] --set flavors=[FILE]",
        100.0 * unknown_ / words_, seen_);
  }

 private:
  const Lexicon& lexicon_;
  int seen_ = 0, words_ = 0, unknown_ = 0;
};

}  // namespace

void serve(Model& model, const ServeOptions& options, std::istream& in, std::ostream& out) {
  ImageSideHello hello{.name = "atelier (simulated)", .version = {}, .simulated = true};
  hello.embedding_size = model.config().embedding_size;
  hello.version = fmt::format("simulated world {}; generator {}; embedder {}{}", described(model.config()),
                              options.generator, to_string(options.embedder), options.taste ? "; taste" : "");
  out << to_line(hello) << std::flush;
  UnknownWords words(model.lexicon());
  for (std::string line; std::getline(in, line);) {
    if (trim(line).empty()) continue;
    try {
      const ImageRequest request = parse_request(line);
      words.look(request.prompt);
      const Picture picture = model.render(request.prompt, options.generator, request.seed);
      ImageAnswer answer{.id = request.id,
                         .image = model.embed(options.embedder, picture),
                         .query = model.embed(options.embedder, request.query),
                         .prompt = model.embed(options.embedder, request.prompt),
                         .aesthetic = {},
                         .image_file = {}};
      if (options.taste) answer.aesthetic = model.taste(picture);
      out << to_line(answer, true);
    } catch (const Error& error) {
      out << error_line("", error.what());
    }
    out << std::flush;
  }
}

}  // namespace unfurl::train::atelier
