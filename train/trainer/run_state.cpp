#include "train/trainer/run_state.h"

#include <fmt/format.h>

#include "core/error.h"
#include "core/names.h"
#include "train/corpus/fields.h"
#include "train/trainer/checkpoint.h"
#include "train/version.h"

namespace unfurl::train {
namespace {

/// What a run's numbers depend on: the recipe without what it may change between sessions.
std::string identity(Recipe recipe) {
  recipe.name = recipe.output = "";
  // The data's fingerprint stands for a tokenizer that was there before; the run's own follows from these keys.
  if (!recipe.tokenizer.path.empty() || !recipe.start.empty()) recipe.tokenizer = {};
  recipe.data.sources.clear();
  recipe.samples = {};
  recipe.eval = {};
  recipe.judge = {};
  // A run may go on elsewhere; the trainer says so, as its numbers then are not those it would have had.
  recipe.device = {};
  recipe.precision = {};
  recipe.attention = {};
  const TrainConfig standard;
  recipe.train.log_every = standard.log_every;
  recipe.train.validate_every = standard.validate_every;
  recipe.train.validation_tokens = standard.validation_tokens;
  recipe.train.checkpoint_every = standard.checkpoint_every;
  recipe.train.keep = standard.keep;
  recipe.train.keep_every = standard.keep_every;
  recipe.train.recompute = standard.recompute;  // gives the same bits, as do the next two
  recipe.train.overlap = standard.overlap;
  recipe.train.bucket_blocks = standard.bucket_blocks;
  recipe.train.deterministic_reduction = standard.deterministic_reduction;
  return dump_recipe(recipe);
}

/// "model.width was 64, is 32": the first key in which two recipes differ.
std::string first_difference(const Node& was, const Node& is, const std::string& key = "") {
  for (const Node& member : was.items) {
    const Node* const other = is.find(member.key);
    if (other == nullptr || to_yaml(member) == to_yaml(*other)) continue;
    const std::string name = key + member.key;
    if (member.kind == Node::Kind::map) return first_difference(member, *other, name + ".");
    return fmt::format("{} was {}, is {}", name, member.described(), other->described());
  }
  return "the recipe";
}

std::string written(std::uint64_t data) { return fmt::format("{:016x}", data); }

void check_origin(const Json& json, const std::filesystem::path& checkpoint, const std::string& file,
                  const Recipe& recipe, std::uint64_t data) {
  const std::string theirs = identity(parse_recipe(json.at("recipe").as_string(), file)), ours = identity(recipe);
  if (theirs == ours && json.at("data").as_string() == written(data)) return;
  user_error("{} holds a run of another recipe or other data ({}); set another output, or start over with --fresh",
             checkpoint.parent_path().string(),
             theirs == ours ? "the data" : first_difference(parse_yaml(theirs, file), parse_yaml(ours, "")));
}

}  // namespace

bool RunState::note_validation(double loss) {
  const bool best = loss < best_loss;
  if (best) {
    best_loss = loss;
    best_step = step;
  }
  without_gain = best ? 0 : without_gain + 1;
  return best;
}

Json to_json(const ProductChoices& products) {
  Json json;
  json["library"] = products.library;
  json["choices"] = Json::object();
  for (const auto& [shape, algorithm] : products.choices) json["choices"][shape] = algorithm;
  return json;
}

ProductChoices read_product_choices(const Json& json) {
  ProductChoices out;
  out.library = json.at("library").as_string();
  for (const auto& [shape, algorithm] : json.at("choices").as_object()) {
    out.choices.emplace_back(shape, algorithm.as_string());
  }
  return out;
}

Json to_json(const RunState& state, const Recipe& recipe, std::uint64_t data) {
  Json json = Json::object();
  json["program"] = std::string("unfurl ") + program_version();
  json["recipe"] = dump_recipe(recipe);
  json["data"] = written(data);
  json["tokens"] = state.tokens;
  json["seconds"] = state.seconds;
  json["loader"]["epoch"] = state.loader.epoch;
  json["loader"]["bin"] = state.loader.bin;
  json["best_step"] = state.best_step;
  json["best_loss"] = state.best_step > 0 ? Json(state.best_loss) : Json();
  json["validations_without_gain"] = state.without_gain;
  json["non_finite_steps"] = state.bad_steps;
  json["updates"] = state.updates;
  json["gradient_norms"] = state.norms.to_json();
  json["placement"] = state.placement;
  if (state.simulated) json["simulated"] = true;
  if (!state.products.library.empty()) json["products"] = to_json(state.products);
  return json;
}

RunState read_run_state(const Json& json, const std::filesystem::path& checkpoint, const Recipe& recipe,
                        std::uint64_t data) {
  const std::string file = (checkpoint / "state.json").string();
  try {
    check_origin(json, checkpoint, file, recipe, data);
    RunState state;
    state.step = json.at("step").as_integer();
    state.updates = json.at("updates").as_integer();
    if (checkpoint_path(checkpoint.parent_path(), state.step) != checkpoint || state.updates < 0 ||
        state.updates > state.step) {
      fail("step {} and {} {} do not belong there", state.step, state.updates, plural(state.updates, "update"));
    }
    state.tokens = json.at("tokens").as_integer();
    state.seconds = json.at("seconds").as_number();
    state.loader = {json.at("loader").at("epoch").as_integer(), json.at("loader").at("bin").as_integer()};
    state.best_step = json.at("best_step").as_integer();
    if (state.best_step > 0) state.best_loss = json.at("best_loss").as_number();
    state.without_gain = json.at("validations_without_gain").as_integer();
    state.bad_steps = json.at("non_finite_steps").as_integer();
    state.norms = NormWindow(recipe.train.spikes.window, recipe.train.spikes.threshold);
    if (const Json* norms = json.find("gradient_norms")) state.norms.read(*norms);
    if (const Json* placement = json.find("placement")) state.placement = placement->as_string();
    state.simulated = is_simulated(json);
    if (const Json* products = json.find("products")) state.products = read_product_choices(*products);
    return state;
  } catch (const UserError&) {
    throw;
  } catch (const Error& error) {
    user_error("{} is damaged: {}", file, error.what());
  }
}

}  // namespace unfurl::train
