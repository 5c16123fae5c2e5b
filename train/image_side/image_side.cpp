#include "train/image_side/image_side.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "core/error.h"
#include "core/names.h"
#include "train/image_side/cache.h"
#include "train/image_side/protocol.h"
#include "train/image_side/session.h"
#include "train/log.h"
#include "train/net/http.h"
#include "train/split_command.h"

namespace unfurl::train {
namespace {

constexpr int kNamed = 3;  // of the requests that fail

/// Of one render() call: a piece of work, which several requests may share.
struct Job {
  std::size_t request = 0;  // the first that asks for it
  RequestKey key;
  std::vector<std::size_t> others;  // further requests of the same key
  int attempts = 0;
};

}  // namespace

class ImageSide::Pool {
 public:
  explicit Pool(ImageSideConfig config);

  const ImageSideHello& hello();
  std::vector<ImageAnswer> render(std::span<const ImageRequest> requests,
                                  const std::function<void(const RenderProgress&)>& progress);

 private:
  using Lock = std::unique_lock<std::mutex>;
  struct Batch {
    std::vector<Job*> jobs;
    std::unordered_map<std::string, Job*> out;  // by the id it was sent with
  };

  std::unique_ptr<ImageSession> open();
  std::unique_ptr<ImageSession> open_patiently();
  void plan(std::span<const ImageRequest> requests);
  void work(std::size_t worker);
  bool take(Batch& batch);
  void exchange(ImageSession& session, Batch& batch);
  bool hear(std::string_view line, Batch& batch);
  void accept(Job& job, ImageAnswer answer);
  void put_back(Job& job, const std::string& why, bool say = true, bool answered = false);
  bool refuse(Job& job, const std::string& why);
  void note_break(const std::string& why);
  std::string kept() const;
  void put_back_all(Batch& batch, const std::string& why);
  void give_up(std::exception_ptr error);
  void say_progress();
  void warn_once(const std::string& text);
  bool sleep(int attempt);
  std::string called() const;

  const ImageSideConfig config_;
  std::optional<ImageSideHello> hello_;
  std::unique_ptr<ImageCache> cache_;
  std::vector<std::unique_ptr<ImageSession>> sessions_;

  // Of the render() call that runs; the mutex guards all of it.
  std::mutex mutex_;
  std::condition_variable changed_;
  std::span<const ImageRequest> requests_;
  std::vector<ImageAnswer> answers_;
  std::vector<Job> jobs_;
  std::deque<Job*> fresh_, again_;
  std::size_t in_flight_ = 0;  // jobs
  std::size_t refused_ = 0;    // requests
  std::exception_ptr error_;
  RenderProgress progress_;
  const std::function<void(const RenderProgress&)>* on_progress_ = nullptr;
  std::uint64_t serial_ = 0;  // of the ids sent, never used twice
  bool warned_ = false;
  int named_ = 0;   // requests that failed
  int breaks_ = 0;  // of sessions, since the last answer
};

ImageSide::Pool::Pool(ImageSideConfig config) : config_(std::move(config)) {
  if (config_.command.empty() == config_.url.empty()) {
    user_error("the image side needs either a command or a URL");
  }
  if (!config_.url.empty()) check_url(config_.url);
  if (!config_.command.empty() && split_command(config_.command).empty()) {
    user_error("the image side's command is blank");
  }
  const auto number = [](const char* name, double value, double least, double most) {
    if (!(value >= least && value <= most)) {
      user_error("the image side's {} must be from {} to {}, got {:g}", name, least, most, value);
    }
  };
  number("workers", config_.workers, 1, 256);
  number("batch", config_.batch, 1, 4096);
  number("timeout_seconds", config_.timeout_seconds, 0.01, 1e6);
  number("start_timeout_seconds", config_.start_timeout_seconds, 0.01, 1e6);
  number("retries", config_.retries, 0, 100);
  number("retry_seconds", config_.retry_seconds, 0, 3600);
  sessions_.resize(static_cast<std::size_t>(config_.workers));
}

std::string ImageSide::Pool::called() const {
  return fmt::format("image side \"{}\"", config_.command.empty() ? config_.url : config_.command);
}

std::unique_ptr<ImageSession> ImageSide::Pool::open() {
  try {
    return config_.command.empty() ? connect_server(config_) : start_child(config_);
  } catch (const UserError& error) {
    throw UserError(fmt::format("{}: {}", called(), error.what()));
  } catch (const Error& error) {
    throw Error(fmt::format("{}: it did not start: {}", called(), error.what()));
  }
}

/// False where there is nothing left to wait for.
bool ImageSide::Pool::sleep(int attempt) {
  const std::chrono::duration<double> time(config_.retry_seconds * static_cast<double>(1 << std::min(attempt, 16)));
  Lock lock(mutex_);
  return !changed_.wait_for(lock, time, [this] { return error_ != nullptr; });
}

std::unique_ptr<ImageSession> ImageSide::Pool::open_patiently() {
  for (int attempt = 0;; ++attempt) {
    try {
      auto session = open();
      Lock lock(mutex_);
      if (!hello_) hello_ = session->hello();
      if (*hello_ != session->hello()) {
        user_error("{}: it was \"{}\" {} and now is \"{}\" {}; all of a run must be one side", called(), hello_->name,
                   hello_->version, session->hello().name, session->hello().version);
      }
      return session;
    } catch (const UserError&) {
      throw;
    } catch (const Error& error) {
      if (attempt >= config_.retries) throw;
      warn("{}; trying again", error.what());
      if (!sleep(attempt)) throw;
    }
  }
}

const ImageSideHello& ImageSide::Pool::hello() {
  if (hello_) return *hello_;
  // In a thread of its own: a child inherits the cores of the thread that starts it, and this one may be pinned.
  std::exception_ptr problem;
  std::thread([&] {
    try {
      sessions_[0] = open_patiently();
    } catch (...) {
      problem = std::current_exception();
    }
  }).join();
  if (problem) std::rethrow_exception(problem);
  if (!config_.cache.empty()) cache_ = std::make_unique<ImageCache>(config_.cache, *hello_);
  return *hello_;
}

void ImageSide::Pool::plan(std::span<const ImageRequest> requests) {
  requests_ = requests;
  answers_.assign(requests.size(), {});
  jobs_.clear();
  jobs_.reserve(requests.size());
  fresh_.clear();
  again_.clear();
  error_ = nullptr;
  in_flight_ = refused_ = 0;
  breaks_ = 0;
  progress_ = {.done = 0, .total = requests.size(), .cached = 0};
  std::unordered_map<RequestKey, Job*, RequestKeyHash> known;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    require(requests[i].seed <= INT64_MAX, "ImageSide::render: the seed of request \"{}\" is above 2^63 - 1",
            requests[i].id);
    const RequestKey key = key_of(*hello_, requests[i]);
    if (cache_) {
      if (auto answer = cache_->find(key)) {
        answers_[i] = std::move(*answer);
        answers_[i].id = requests[i].id;
        ++progress_.done;
        ++progress_.cached;
        continue;
      }
    }
    Job*& job = known[key];
    if (job == nullptr) {
      job = &jobs_.emplace_back(Job{.request = i, .key = key, .others = {}, .attempts = 0});
      fresh_.push_back(job);
    } else {
      job->others.push_back(i);
    }
  }
}

std::vector<ImageAnswer> ImageSide::Pool::render(std::span<const ImageRequest> requests,
                                                 const std::function<void(const RenderProgress&)>& progress) {
  hello();
  on_progress_ = &progress;
  plan(requests);
  say_progress();
  const auto batch = static_cast<std::size_t>(config_.batch);
  const std::size_t workers = std::min(sessions_.size(), (fresh_.size() + batch - 1) / batch);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < workers; ++i) {
    threads.emplace_back([this, i] {
      try {
        work(i);
      } catch (...) {
        give_up(std::current_exception());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  if (cache_) cache_->sync();
  if (error_) std::rethrow_exception(error_);
  return std::move(answers_);
}

void ImageSide::Pool::give_up(std::exception_ptr error) {
  const Lock lock(mutex_);
  if (!error_) error_ = std::move(error);
  changed_.notify_all();
}

void ImageSide::Pool::say_progress() {
  if (*on_progress_) (*on_progress_)(progress_);
}

void ImageSide::Pool::warn_once(const std::string& text) {
  if (!warned_) warn("{}; further ones are not named", text);
  warned_ = true;
}

/// The next requests to send: many new ones, or one that failed before, alone, so that it takes no others with it.
/// False at the end.
bool ImageSide::Pool::take(Batch& batch) {
  Lock lock(mutex_);
  changed_.wait(lock, [this] { return error_ || !fresh_.empty() || !again_.empty() || in_flight_ == 0; });
  if (error_ || (fresh_.empty() && again_.empty())) return false;
  if (!again_.empty()) {
    batch.jobs.push_back(again_.front());
    again_.pop_front();
  } else {
    while (!fresh_.empty() && batch.jobs.size() < static_cast<std::size_t>(config_.batch)) {
      batch.jobs.push_back(fresh_.front());
      fresh_.pop_front();
    }
  }
  in_flight_ += batch.jobs.size();
  return true;
}

void ImageSide::Pool::work(std::size_t worker) {
  std::unique_ptr<ImageSession>& session = sessions_[worker];
  while (true) {
    Batch batch;
    if (!take(batch)) return;
    if (!session) session = open_patiently();
    try {
      exchange(*session, batch);
    } catch (const UserError&) {
      throw;
    } catch (const Error& error) {
      session.reset();
      const int attempt = batch.jobs.front()->attempts;
      put_back_all(batch, error.what());
      note_break(error.what());
      sleep(attempt);
    }
  }
}

/// Those of a batch that have no answer when the session breaks.
void ImageSide::Pool::put_back_all(Batch& batch, const std::string& why) {
  const Lock lock(mutex_);
  const std::size_t left = batch.out.size();
  if (left > 1) warn("{}: {}; its {} requests without an answer are tried again, each alone", called(), why, left);
  for (Job* const job : batch.jobs) {
    const bool unanswered =
        std::any_of(batch.out.begin(), batch.out.end(), [&](const auto& sent) { return sent.second == job; });
    if (unanswered) put_back(*job, why, left == 1);
  }
}

void ImageSide::Pool::exchange(ImageSession& session, Batch& batch) {
  std::string lines;
  {
    const Lock lock(mutex_);
    for (Job* const job : batch.jobs) {
      ImageRequest request = requests_[job->request];
      request.id += fmt::format("#{}", ++serial_);
      lines += to_line(request);
      batch.out.emplace(std::move(request.id), job);
    }
  }
  lines += '\n';
  session.exchange(lines, [&](std::string_view line) { return hear(line, batch); });
}

/// A side that breaks again and again, with no answer in between, has no request at fault: to try each alone would take
/// hours.
void ImageSide::Pool::note_break(const std::string& why) {
  const Lock lock(mutex_);
  if (++breaks_ <= (config_.retries + 2) * config_.workers || error_) return;
  error_ = std::make_exception_ptr(
      Error(fmt::format("{}: {}; so it was {} times in a row, without an answer{}", called(), why, breaks_, kept())));
  changed_.notify_all();
}

/// What is not lost when the run ends.
std::string ImageSide::Pool::kept() const {
  if (!cache_) return "";
  return fmt::format("; the {} {} so far are kept in {}", cache_->size(),
                     plural(static_cast<std::int64_t>(cache_->size()), "answer"), config_.cache.string());
}

/// Takes in a line of the answers; true where all of the batch have come.
bool ImageSide::Pool::hear(std::string_view line, Batch& batch) {
  ParsedAnswer parsed = parse_answer(line, hello_->embedding_size);
  const Lock lock(mutex_);
  const auto found = batch.out.find(parsed.answer.id);
  if (found == batch.out.end()) {
    // The ids we send end in a number that is never used again: a small one has been answered before.
    const std::string& id = parsed.answer.id;
    const std::size_t mark = id.rfind('#');
    const std::string digits = mark == std::string::npos ? "" : id.substr(mark + 1);
    const bool number =
        !digits.empty() && digits.size() < 19 && digits.find_first_not_of("0123456789") == std::string::npos;
    if (!number || std::stoull(digits) == 0 || std::stoull(digits) > serial_) {
      fail("it answers {}, which was not asked", in_quotes(id));
    }
    warn_once(fmt::format("{}: it answers request {} twice; the first answer counts", called(),
                          in_quotes(id.substr(0, mark))));
    return batch.out.empty();
  }
  Job& job = *found->second;
  batch.out.erase(found);
  breaks_ = 0;
  if (parsed.error.empty()) {
    accept(job, std::move(parsed.answer));
  } else {
    put_back(job, "its answer " + parsed.error, true, true);
  }
  return batch.out.empty();
}

void ImageSide::Pool::accept(Job& job, ImageAnswer answer) {
  try {
    if (cache_) cache_->add(job.key, answer);
  } catch (const Error&) {  // a full disk: no fault of the side's, and nothing to try again
    if (!error_) error_ = std::current_exception();
  }
  for (const std::size_t i : job.others) {
    answers_[i] = answer;
    answers_[i].id = requests_[i].id;
  }
  answer.id = requests_[job.request].id;
  answers_[job.request] = std::move(answer);
  progress_.done += 1 + job.others.size();
  progress_.cached += job.others.size();
  --in_flight_;
  say_progress();
  changed_.notify_all();
}

/// A request whose answers are of no use; false where there are too many of them.
bool ImageSide::Pool::refuse(Job& job, const std::string& why) {
  if (refused_ + 1 + job.others.size() > requests_.size() / 10) return false;
  refused_ += 1 + job.others.size();
  const auto answer = [&](std::size_t i) {
    answers_[i] = {};
    answers_[i].id = requests_[i].id;
    answers_[i].refused = why;
  };
  answer(job.request);
  for (const std::size_t i : job.others) answer(i);
  progress_.done += 1 + job.others.size();
  say_progress();
  return true;
}

/// A request that failed: it is tried again, or refused, or the run ends.
void ImageSide::Pool::put_back(Job& job, const std::string& why, bool say, bool answered) {
  --in_flight_;
  ++job.attempts;
  const ImageRequest& request = requests_[job.request];
  const std::string text = fmt::format("{}: request {} (prompt {}, seed {}): {}", called(), in_quotes(request.id),
                                       in_quotes(request.prompt), request.seed, why);
  if (job.attempts > config_.retries) {
    if (answered && refuse(job, why)) {
      warn("{}, in {} {}; there is no such image", text, job.attempts, plural(job.attempts, "attempt"));
      changed_.notify_all();
      return;
    }
    if (!error_) {
      error_ = std::make_exception_ptr(
          Error(fmt::format("{}, in {} {}{}", text, job.attempts, plural(job.attempts, "attempt"), kept())));
    }
  } else {
    if (say && job.attempts == 1 && named_ < kNamed) {
      warn("{}; trying it again{}", text, ++named_ == kNamed ? ", as further ones, which are not named" : "");
    }
    again_.push_back(&job);
  }
  changed_.notify_all();
}

ImageSide::ImageSide(ImageSideConfig config) : pool_(std::make_unique<Pool>(std::move(config))) {}
ImageSide::~ImageSide() = default;

const ImageSideHello& ImageSide::hello() { return pool_->hello(); }

std::vector<ImageAnswer> ImageSide::render(std::span<const ImageRequest> requests,
                                           const std::function<void(const RenderProgress&)>& progress) {
  return pool_->render(requests, progress);
}

}  // namespace unfurl::train
