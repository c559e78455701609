#pragma once
// What a program is doing just now, on a terminal: one line of stderr, written again and again.

#include <string>

namespace deeplab {

class StatusLine {
public:
    explicit StatusLine(bool wanted = true);  // by this rank
    // Wanted, and stderr is a terminal; else nothing below does anything.
    bool visible() const { return visible_; }

    void write(const std::string& text);  // in place of what stands there
    void keep();   // what stands there stays, what comes next begins a line of its own
    void clear();  // what stands there goes

private:
    bool visible_, written_ = false;
};

std::string progress_bar(double done, int width);  // of 0..1: "[=====     ]"

}  // namespace deeplab
