#include <gtest/gtest.h>

int main(int argc, char** argv) { return testing::plain::run_all(argc > 1 ? argv[1] : nullptr); }
