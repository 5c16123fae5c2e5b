#include "train/recipe/pipeline.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "core/files.h"
#include "core/names.h"
#include "train/recipe/variables.h"
#include "train/split_command.h"

namespace unfurl::train {
namespace {

constexpr const char* kStageKeys[] = {"name", "kind", "runs", "commands", "inputs"};

/// What a stage says about itself; the rest of its keys are the recipe's.
void describe_stage(Schema& schema, Stage& stage) {
  schema.field("name", stage.name, "of the stage, and of its folder; by default its kind");
  schema.field("kind", stage.kind, "what it does");
  schema.paths("runs", stage.runs, "expand, eval, judge: runs to look at; by default all training stages before");
  schema.field("commands", stage.commands,
               "command: programs that are run one after the other; words, or values behind =, that start with $OUT or "
               "$STAGE are in the "
               "folder of this or that stage");
  schema.paths("inputs", stage.inputs, "command: files and folders that they read; where these change it runs again");
}

bool is_stage_key(const std::string& key) { return std::ranges::find(kStageKeys, key) != std::end(kStageKeys); }

Stage bind_stage(const Node& common, const Node& item, const std::string& file) {
  if (item.kind != Node::Kind::map) user_error("{}: a stage is a map of keys, got {}", item.where, item.described());
  if (item.find("kind") == nullptr) {
    user_error("{}: this stage needs a kind: one of {}", item.where, fmt::join(names(StageKind{}), ", "));
  }
  Node about = Node::map(item.where), own = Node::map(item.where);
  for (const Node& member : item.items) (is_stage_key(member.key) ? about : own).put(member.key, member);

  Stage stage;
  Schema schema("stage");
  describe_stage(schema, stage);
  schema.read(about);
  if (stage.name.empty()) stage.name = to_string(stage.kind);

  Node node = merged(common, own);
  if (stage.kind == StageKind::pretrain && node.find("objective") == nullptr) {
    node.put("objective", Node::scalar("ul2", item.where));
  }
  if (own.find("output") == nullptr) node.erase("output");
  node.put("name", Node::scalar(stage.name, item.where));
  stage.recipe = bind_recipe(std::move(node), fmt::format("{}: stage {}", file, stage.name));
  if (own.find("output") == nullptr) stage.recipe.output.clear();
  if (stage.kind == StageKind::pretrain && stage.recipe.data.objective == Objective::pairs) {
    user_error("{}: stage {}: pre-training is on plain text; set objective to ul2, causal or prefix_lm", item.where,
               stage.name);
  }
  return stage;
}

Node write_stage(Stage& stage) {
  Schema about, recipe;
  describe_stage(about, stage);
  describe(recipe, stage.recipe);
  Node out = about.write();
  for (Node& member : recipe.write().items) {
    if (member.key == "name" || (member.key == "output" && stage.recipe.output.empty())) continue;
    std::string key = member.key;
    out.put(std::move(key), std::move(member));
  }
  return out;
}

/// The place where a text is written below a node, "" where it is not.
std::string place_of(const std::string& text, const Node& node) {
  if (node.kind == Node::Kind::scalar) return node.text == text ? node.where : "";
  for (const Node& item : node.items) {
    if (std::string where = place_of(text, item); !where.empty()) return where;
  }
  return "";
}

/// NAME of "$NAME/...".
std::string stage_named_by(const std::string& path) { return path.substr(1, path.find('/') - 1); }

/// A command whose words, or values behind "=", that start with "$" have folders for the names, in quotes.
std::string with_folders(const std::string& command, const std::string& own,
                         const std::function<void(std::string&)>& folder) {
  std::string out;
  for (std::string word : split_command(command)) {
    const std::size_t equals = word.find("=$");  // of an option: output=$OUT
    const std::string before = equals == std::string::npos ? "" : word.substr(0, equals + 1);
    word.erase(0, before.size());
    if (word == "$OUT" || word.starts_with("$OUT/")) {
      word = own + word.substr(4);
    } else {
      folder(word);
    }
    word.insert(0, before);
    out += out.empty() ? "'" : " '";
    for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
    out += '\'';
  }
  return out;
}

/// Puts folders for "$NAME" in the paths of all stages. `common` and `items` are what they were read from.
void resolve(Pipeline& pipeline, const Node& common, const std::vector<Node>& items) {
  std::vector<std::string> known;
  for (const Stage& stage : pipeline.stages) known.push_back(stage.name);
  for (Stage& stage : pipeline.stages) {
    if (stage.recipe.output.empty()) stage.recipe.output = pipeline.output + '/' + stage.name;
  }
  for (std::size_t i = 0; i < pipeline.stages.size(); ++i) {
    Stage& stage = pipeline.stages[i];
    const auto place = [&](const std::string& path) {
      const std::string own = place_of(path, items[i]);
      return fmt::format("{}: stage {}", own.empty() ? place_of(path, common) : own, stage.name);
    };
    const auto number = [&](const std::string& path) {
      const std::string name = stage_named_by(path);
      const auto found = std::ranges::find(known, name);
      if (found == known.end()) user_error("{}: {} names no stage{}", place(path), path, did_you_mean(name, known));
      return static_cast<std::size_t>(found - known.begin());
    };
    // Keys that a stage of this kind does not read may name any stage: the common ones stand in all.
    for (const std::string& path : stage_inputs(stage)) {
      if (!path.starts_with('$') || number(path) < i) continue;
      user_error("{}: it reads {}, but {}; name a stage before it", place(path), path,
                 number(path) == i ? "that is its own folder" : "that stage comes later");
    }
    const auto folder = [&](std::string& path) {
      if (path.starts_with('$')) {
        path = pipeline.stages[number(path)].recipe.output + path.substr(std::min(path.find('/'), path.size()));
      }
    };
    Schema about, recipe;
    describe_stage(about, stage);
    describe(recipe, stage.recipe);
    for (std::string& command : stage.commands) command = with_folders(command, stage.recipe.output, folder);
    about.each_path(folder);
    recipe.each_path(folder);
  }
}

}  // namespace

std::vector<std::string> names(StageKind) {
  return {"synth",  "pairs",      "split",  "tokenizer", "pretrain", "train",
          "refine", "multi_step", "expand", "eval",      "judge",    "command"};
}

Pipeline load_pipeline(const std::filesystem::path& path, const std::vector<std::string>& sets) {
  const std::string file = path.string();
  Node node = load_document(path);
  set_values(node, sets, file);
  substitute_variables(node);
  const Node* list = node.find("stages");
  if (list == nullptr) user_error("{}: this recipe lists no stages: start it by `unfurl train {}`", file, file);
  if (list->kind != Node::Kind::list) user_error("{}: stages must be a list, got {}", list->where, list->described());
  if (list->items.empty()) user_error("{}: stages is empty", list->where);
  const Node stages = *list;
  node.erase("stages");

  Pipeline pipeline;
  const Recipe common = bind_recipe(node, file);
  pipeline.name = common.name;
  pipeline.output = common.output;
  Node dumped = Node::list();
  for (const Node& item : stages.items) {
    Stage stage = bind_stage(node, item, file);
    if (stage.kind == StageKind::command && stage.commands.empty()) {
      user_error("{}: stage {}: commands is missing: a list of programs with their arguments", item.where, stage.name);
    }
    if (stage.kind == StageKind::pairs && stage.recipe.data.prompts.empty()) {
      user_error("{}: stage {}: data.prompts is missing: the list of prompts, one a line", item.where, stage.name);
    }
    if ((stage.kind == StageKind::refine || stage.kind == StageKind::multi_step) && stage.recipe.start.empty()) {
      user_error("{}: stage {}: start is missing: the run whose model expands the queries", item.where, stage.name);
    }
    if (std::ranges::find(stage.runs, "") != stage.runs.end()) {
      user_error("{}: stage {}: an item of runs is empty; name a run's folder", item.where, stage.name);
    }
    if (std::ranges::find(pipeline.stages, stage.name, &Stage::name) != pipeline.stages.end()) {
      user_error("{}: there are two stages named \"{}\": give one another name", item.where, stage.name);
    }
    if (stage.runs.empty() &&
        (stage.kind == StageKind::expand || stage.kind == StageKind::eval || stage.kind == StageKind::judge)) {
      for (const Stage& before : pipeline.stages) {
        if (before.kind == StageKind::train || before.kind == StageKind::refine)
          stage.runs.push_back('$' + before.name);
      }
    }
    dumped.items.push_back(write_stage(stage));
    pipeline.stages.push_back(std::move(stage));
  }
  Node resolved = Node::map();
  resolved.put("name", Node::scalar(pipeline.name));
  resolved.put("output", Node::scalar(pipeline.output));
  resolved.put("stages", std::move(dumped));
  pipeline.resolved = to_yaml(resolved);
  resolve(pipeline, node, stages.items);
  return pipeline;
}

bool is_pipeline(const std::filesystem::path& path) { return load_document(path).find("stages") != nullptr; }

std::vector<std::string> stage_inputs(const Stage& stage) {
  const Recipe& recipe = stage.recipe;
  std::vector<std::string> out;
  const auto add = [&](const std::string& path) {
    if (!path.empty()) out.push_back(path);
  };
  const auto add_sources = [&] {
    for (const SourceConfig& source : recipe.data.sources) add(source.path);
  };
  switch (stage.kind) {
    case StageKind::synth:
      break;
    case StageKind::pairs:
      add(recipe.data.prompts);
      break;
    case StageKind::split:
    case StageKind::tokenizer:
      add_sources();
      break;
    case StageKind::multi_step:
      add_sources();
      add(recipe.start);
      break;
    case StageKind::refine:
      add(recipe.refine.like);
      [[fallthrough]];
    case StageKind::pretrain:
    case StageKind::train:
      add_sources();
      add(recipe.tokenizer.path);
      add(recipe.start);
      break;
    case StageKind::judge:
      add(recipe.judge.queries);
      for (const std::string& run : stage.runs) add(run);
      break;
    case StageKind::command:
      for (const std::string& input : stage.inputs) add(input);
      break;
    case StageKind::eval:
      add_sources();
      [[fallthrough]];
    case StageKind::expand:
      for (const std::string& run : stage.runs) add(run);
      break;
  }
  return out;
}

std::uint64_t stage_hash(const Stage& stage) {
  Stage copy = stage;
  Node all = write_stage(copy), kept = Node::map();
  std::vector<std::string> keys = {"kind", "seed"};
  const auto add = [&](std::initializer_list<const char*> more) { keys.insert(keys.end(), more.begin(), more.end()); };
  switch (stage.kind) {
    case StageKind::synth:
    case StageKind::pairs:
    case StageKind::split:
      add({"data"});
      break;
    case StageKind::tokenizer:
      add({"objective", "data", "tokenizer"});
      break;
    case StageKind::multi_step:
      add({"start", "data", "samples", "multi_step"});
      break;
    case StageKind::refine:
      add({"refine"});
      [[fallthrough]];
    case StageKind::pretrain:
    case StageKind::train:
      add({"objective", "start", "method", "prompt_tuning", "lora", "model", "tokenizer", "data", "batch", "optimizer",
           "schedule", "train", "prefix", "samples"});
      break;
    case StageKind::expand:
      add({"runs", "samples"});
      break;
    case StageKind::judge:
      add({"runs", "judge", "samples"});
      break;
    case StageKind::command:
      add({"commands", "inputs"});
      break;
    case StageKind::eval:
      add({"runs", "data", "eval", "samples"});
      break;
  }
  for (const std::string& key : keys) kept.put(key, *all.find(key));
  return hash_bytes(to_yaml(kept));
}

std::string document_stage() {
  Stage standard;
  Schema schema;
  describe_stage(schema, standard);
  return schema.documented();
}

}  // namespace unfurl::train
