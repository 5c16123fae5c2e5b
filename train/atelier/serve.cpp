#include <fmt/format.h>

#include "core/error.h"
#include "train/atelier/commands.h"
#include "train/corpus/text.h"
#include "train/image_side/protocol.h"

namespace unfurl::train::atelier {

void serve(Model& model, const ServeOptions& options, std::istream& in, std::ostream& out) {
  ImageSideHello hello{.name = "atelier (simulated)", .version = {}, .simulated = true};
  hello.embedding_size = model.config().embedding_size;
  hello.version = fmt::format("simulated world {}; generator {}; embedder {}{}", described(model.config()),
                              options.generator, to_string(options.embedder), options.taste ? "; taste" : "");
  out << to_line(hello) << std::flush;
  for (std::string line; std::getline(in, line);) {
    if (trim(line).empty()) continue;
    try {
      const ImageRequest request = parse_request(line);
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
