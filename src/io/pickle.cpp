// The opcodes are those of Python's pickletools; what PyTorch writes is protocol 2.
#include "pickle.h"

#include <array>
#include <limits>
#include <unordered_map>

#include "pickle_names.h"

namespace deeplab::io {
namespace {

using Kind = PickleNode::Kind;
using Ref = std::uint32_t;

// A ResNet-101 with its optimizer needs some 50,000 of each.
constexpr std::size_t most_nodes = 1'000'000, most_steps = 4'000'000, most_marks = 1000;
constexpr std::size_t most_dimensions = 16, most_arguments = 16;

class Machine {
public:
    Machine(Bytes bytes, std::size_t start, const std::string& what, const std::string& where)
        : bytes_(bytes), what_(what), where_(where), at_(start) {}

    Pickle run() {
        for (std::size_t steps = 0;; ++steps) {
            if (steps == most_steps) fail("it has more steps than any state dict");
            opcode_at_ = at_;
            const unsigned char code = take(1)[0];
            if (code == '.') break;
            step(code);
        }
        if (stack_.size() != 1 || !marks_.empty()) fail("it leaves something behind at its end");
        result_.root = stack_.back();
        result_.end = at_;
        return std::move(result_);
    }

private:
    [[noreturn]] void fail(const std::string& problem) const {
        refuse(what_, cat(where_, ", byte ", opcode_at_, ": ", problem));
    }
    // Of code that asks for more than data. What stands at the pickle's very beginning is all of
    // it.
    [[noreturn]] void fail_code(const std::string& problem) const {
        const bool whole = stack_.empty() && marks_.empty();
        refuse_kind(
            what_, cat(where_, ", byte ", opcode_at_, ": ", problem),
            cat(whole ? "the file holds a Python object with its code, as torch.save(model, "
                        "FILE) writes it"
                      : "beside tensors the file holds Python objects with their code",
                "; this program runs none, and reads a state dict of tensors alone"),
            cat("where you trust the file, save its state dict alone, in Python: "
                "torch.save(torch.load(FILE, weights_only=False)",
                whole ? ".state_dict()"
                      : "[KEY], OUT), KEY being the state dict's (\"state_dict\", "
                        "\"model\", …",
                whole ? ", OUT)" : ")"));
    }

    Bytes take(std::uint64_t size) {
        if (size > bytes_.size() - at_) fail("it is truncated");
        const Bytes taken = bytes_.subspan(at_, static_cast<std::size_t>(size));
        at_ += static_cast<std::size_t>(size);
        return taken;
    }
    template <class T>
    T number() {
        return little_endian<T>(take(sizeof(T)), 0);
    }
    static std::string_view text_of(Bytes bytes) {
        return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    }
    std::string_view line() {
        constexpr std::size_t longest = 256;
        for (std::size_t n = 0; n < longest && at_ + n < bytes_.size(); ++n) {
            if (bytes_[at_ + n] == '\n') return text_of(take(n + 1)).substr(0, n);
        }
        fail("a name has no end");
    }

    // --- The stack ---
    PickleNode& node(Ref ref) { return result_.nodes[ref]; }
    void push(Ref ref) {
        if (stack_.size() == most_nodes) fail("its stack is larger than any state dict needs");
        stack_.push_back(ref);
    }
    void push(PickleNode made) {
        if (result_.nodes.size() == most_nodes) fail("it has more objects than any state dict");
        result_.nodes.push_back(std::move(made));
        push(static_cast<Ref>(result_.nodes.size() - 1));
    }
    void push(Kind kind, std::int64_t value = 0) {
        PickleNode made;
        made.kind = kind;
        made.number = value;
        push(std::move(made));
    }
    void push_text(std::string_view text) {
        PickleNode made;
        made.kind = Kind::text;
        made.text = text;
        push(std::move(made));
    }
    // Nothing below the latest mark is taken: as Python's own machine has it.
    std::size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
    Ref pop() {
        if (stack_.size() <= floor()) fail("it takes from an empty stack");
        const Ref ref = stack_.back();
        stack_.pop_back();
        return ref;
    }
    std::vector<Ref> pop_many(std::size_t count) {
        if (stack_.size() - floor() < count) fail("it takes from an empty stack");
        std::vector<Ref> items(stack_.end() - static_cast<std::ptrdiff_t>(count), stack_.end());
        stack_.resize(stack_.size() - count);
        return items;
    }
    std::vector<Ref> pop_to_mark() {
        if (marks_.empty()) fail("a mark is missing");
        std::vector<Ref> items = pop_many(stack_.size() - marks_.back());
        marks_.pop_back();
        return items;
    }
    PickleNode& top(Kind kind, const char* wanted) {
        if (stack_.size() <= floor()) fail("it takes from an empty stack");
        PickleNode& found = node(stack_.back());
        if (found.kind != kind) fail(cat("there is no ", wanted, " to add to"));
        return found;
    }

    // --- Opcodes ---
    void step(unsigned char code) {
        switch (code) {
            case 0x80: return protocol();
            case '(':
                if (marks_.size() == most_marks) fail("it is nested deeper than any state dict");
                return marks_.push_back(stack_.size());
            case 'N': return push(Kind::none);
            case 0x88: return push(Kind::boolean, 1);
            case 0x89: return push(Kind::boolean, 0);
            case 'J':
                return push(Kind::integer, static_cast<std::int32_t>(number<std::uint32_t>()));
            case 'K': return push(Kind::integer, number<std::uint8_t>());
            case 'M': return push(Kind::integer, number<std::uint16_t>());
            case 0x8a: return long_integer();
            case 'G': take(8); return push(Kind::opaque);
            case 'X': return push_text(text_of(take(number<std::uint32_t>())));
            case 'T': return push_text(text_of(take(number<std::uint32_t>())));
            case 'U': return push_text(text_of(take(number<std::uint8_t>())));
            case ')': return push(Kind::tuple);
            case 't': return tuple(pop_to_mark());
            case 0x85: return tuple(pop_many(1));
            case 0x86: return tuple(pop_many(2));
            case 0x87: return tuple(pop_many(3));
            case ']': return push(Kind::list);
            case 'a': return extend(Kind::list, "list", {pop()});
            case 'e': return extend(Kind::list, "list", pop_to_mark());
            case '}': return push(Kind::dict);
            case 's': return extend(Kind::dict, "dict", pop_many(2));
            case 'u': return extend(Kind::dict, "dict", pop_to_mark());
            case 'q': return remember(number<std::uint8_t>());
            case 'r': return remember(number<std::uint32_t>());
            case 'h': return recall(number<std::uint8_t>());
            case 'j': return recall(number<std::uint32_t>());
            case 'c': return global();
            case 'Q': return persistent(pop());
            case 'R':
            case 0x81: return reduce();
            case 'b': return build();
            default: return unknown(code);
        }
    }

    [[noreturn]] void unknown(unsigned char code) const {
        for (const Opcode& known : refused_opcodes) {
            if (known.code == code) fail_code(cat("the opcode ", known.name, " is refused"));
        }
        fail(cat("there is no opcode ", static_cast<int>(code)));
    }

    void protocol() {
        const int version = number<std::uint8_t>();
        if (version == 2) return;
        refuse_kind(what_,
                    cat(where_, ", byte ", opcode_at_, ": protocol ", version,
                        " is refused, torch.save writes 2"),
                    "only what torch.save writes by default is read",
                    "write it again in Python: torch.save(torch.load(FILE), OUT)");
    }

    void long_integer() {
        const Bytes digits = take(number<std::uint8_t>());
        if (digits.size() > 8) return push(Kind::opaque);  // too large for any size
        std::uint64_t value = 0;
        for (std::size_t i = 0; i < digits.size(); ++i)
            value |= std::uint64_t{digits[i]} << (8 * i);
        if (!digits.empty() && digits.size() < 8 && (digits.back() & 0x80) != 0)
            value |= ~std::uint64_t{0} << (8 * digits.size());
        push(Kind::integer, static_cast<std::int64_t>(value));
    }

    void tuple(std::vector<Ref> items) {
        PickleNode made;
        made.kind = Kind::tuple;
        made.items = std::move(items);
        push(std::move(made));
    }

    void extend(Kind kind, const char* wanted, const std::vector<Ref>& items) {
        if (kind == Kind::dict && items.size() % 2 != 0) fail("a key has no value");
        auto& own = top(kind, wanted).items;
        own.insert(own.end(), items.begin(), items.end());
    }

    void remember(std::uint32_t key) {
        if (stack_.size() <= floor()) fail("it remembers from an empty stack");
        if (memo_.size() == most_nodes) fail("it remembers more than any state dict needs");
        memo_[key] = stack_.back();
    }
    void recall(std::uint32_t key) {
        const auto found = memo_.find(key);
        if (found == memo_.end()) fail(cat("it recalls ", key, ", which it never remembered"));
        push(found->second);
    }

    void global() {
        const std::string_view module = line(), name = line();
        for (std::size_t i = 0; i < std::size(globals); ++i) {
            if (globals[i].module == module && globals[i].name == name)
                return push(Kind::global, static_cast<std::int64_t>(i));
        }
        fail_code(cat("the global ", shown(module), ".", shown(name), " is refused"));
    }
    const Global& global_of(Ref ref) {
        if (node(ref).kind != Kind::global) fail_code("it calls something that is no known global");
        return globals[static_cast<std::size_t>(node(ref).number)];
    }

    // --- Objects ---
    const PickleNode& item(const PickleNode& tuple, std::size_t i, Kind kind, const char* wanted) {
        if (i >= tuple.items.size() || node(tuple.items[i]).kind != kind)
            fail(cat("argument ", i + 1, " is no ", wanted));
        return node(tuple.items[i]);
    }
    std::vector<std::int64_t> sizes(const PickleNode& tuple) {
        if (tuple.items.size() > most_dimensions) fail("a tensor has too many dimensions");
        std::vector<std::int64_t> values;
        for (std::size_t i = 0; i < tuple.items.size(); ++i) {
            values.push_back(item(tuple, i, Kind::integer, "integer").number);
            if (values.back() < 0) fail("a tensor has a negative size or stride");
        }
        return values;
    }

    // ('storage', type, key, location, elements[, view]); a view is None or (key, offset,
    // elements).
    void persistent(Ref ref) {
        const PickleNode& id = node(ref);
        if (id.kind != Kind::tuple || id.items.empty()) fail("a persistent id is no tuple");
        const std::string_view tag = item(id, 0, Kind::text, "text").text;
        if (tag != "storage") {
            fail_code(cat("the persistent id ", shown(tag),
                          tag == "module" ? " (a whole module with its code)" : "", " is refused"));
        }
        if (id.items.size() != 5 && id.items.size() != 6) fail("a storage has not 5 or 6 parts");
        const Global& type = global_of(id.items[1]);
        if (type.role != Role::storage) fail("a storage has no type");
        PickledStorage made;
        made.type = type.type;
        made.key = item(id, 2, Kind::text, "key").text;
        made.elements = item(id, 4, Kind::integer, "size").number;
        made.view_elements = made.elements;
        if (made.elements < 0) fail("a storage has a negative size");
        if (id.items.size() == 6 && node(id.items[5]).kind != Kind::none) {
            const PickleNode& view = item(id, 5, Kind::tuple, "view");
            made.view_offset = item(view, 1, Kind::integer, "offset").number;
            made.view_elements = item(view, 2, Kind::integer, "size").number;
            if (made.view_offset < 0 || made.view_offset > made.elements ||
                made.view_elements < 0 || made.view_elements > made.elements - made.view_offset)
                fail("a view reaches beyond its storage");
        }
        result_.storages.push_back(made);
        push(Kind::storage, static_cast<std::int64_t>(result_.storages.size() - 1));
    }

    // (storage, offset, size, stride, …)
    PickledTensor tensor_from(const PickleNode& arguments) {
        PickledTensor made;
        made.storage = static_cast<std::uint32_t>(
            item(arguments, 0, Kind::storage, "storage").number);
        made.offset = item(arguments, 1, Kind::integer, "offset").number;
        made.extents = sizes(item(arguments, 2, Kind::tuple, "tuple"));
        made.strides = sizes(item(arguments, 3, Kind::tuple, "tuple"));
        if (made.offset < 0 || made.extents.size() != made.strides.size())
            fail("a tensor's offset, size and stride do not fit");
        return made;
    }
    void push_tensor(PickledTensor made) {
        result_.tensors.push_back(std::move(made));
        push(Kind::tensor, static_cast<std::int64_t>(result_.tensors.size() - 1));
    }

    // REDUCE calls, NEWOBJ makes: for the globals of the list there is no difference.
    void reduce() {
        const Ref arguments_ref = pop();
        const Global& callee = global_of(pop());
        const std::size_t count = node(arguments_ref).items.size();
        if (node(arguments_ref).kind != Kind::tuple || count > most_arguments)
            fail("the arguments of a call are no short tuple");
        const PickleNode arguments = node(arguments_ref);  // a copy: pushing moves the nodes
        switch (callee.role) {
            case Role::ordered_dict: return ordered_dict(arguments);
            case Role::rebuild_tensor:
                // A seventh argument would negate or conjugate.
                if (count != 4 && count != 6) fail(cat("a tensor is made of ", count, " parts"));
                return push_tensor(tensor_from(arguments));
            case Role::rebuild_parameter:
            case Role::parameter:
                if (count == 0) return push_tensor({});
                item(arguments, 0, Kind::tensor, "tensor");
                return push(arguments.items[0]);
            case Role::legacy_tensor:
                if (count != 0) fail("a tensor of PyTorch 0.1 is made of nothing and filled later");
                return push_tensor({});
            case Role::size:
                item(arguments, 0, Kind::tuple, "tuple");
                return push(arguments.items[0]);
            case Role::numpy_type: return push(Kind::opaque, 1);
            case Role::numpy_scalar:
            case Role::codec: return push(Kind::opaque);
            case Role::storage: break;
        }
        fail_code(cat("a call of ", callee.module, ".", callee.name, " is refused"));
    }

    // OrderedDict() of Python 3, OrderedDict([[key, value], …]) of Python 2.
    void ordered_dict(const PickleNode& arguments) {
        PickleNode made;
        made.kind = Kind::dict;
        if (!arguments.items.empty()) {
            const PickleNode& pairs = item(arguments, 0, Kind::list, "list");
            // The one place where items are copied: a short pickle must not do it again and again.
            copied_ += pairs.items.size();
            if (copied_ > most_nodes) fail("it has more objects than any state dict");
            for (const Ref pair : pairs.items) {
                const PickleNode& entry = node(pair);
                if ((entry.kind != Kind::list && entry.kind != Kind::tuple) ||
                    entry.items.size() != 2)
                    fail("an OrderedDict is not made of pairs");
                made.items.insert(made.items.end(), entry.items.begin(), entry.items.end());
            }
        }
        push(std::move(made));
    }

    // State of an object just made. Nothing here has a __setstate__: what is not known is refused.
    void build() {
        const Ref state_ref = pop();
        if (stack_.size() <= floor()) fail("it takes from an empty stack");
        PickleNode& object = node(stack_.back());
        const PickleNode& state = node(state_ref);
        // The versions of its modules.
        if (object.kind == Kind::dict && state.kind == Kind::dict && state.items.size() == 2 &&
            node(state.items[0]).text == "_metadata")
            return;
        if (object.kind == Kind::opaque && object.number == 1 && state.kind == Kind::tuple) return;
        if (object.kind == Kind::tensor && state.kind == Kind::tuple) {
            PickledTensor& tensor = result_.tensors[static_cast<std::size_t>(object.number)];
            const std::size_t count = state.items.size();
            if (count == 3) return;  // requires_grad, volatile, hooks
            if (count == 4 && !tensor.storage) {
                tensor = tensor_from(state);
                return;
            }
            if (count == 5 && !tensor.storage) {
                const auto& data = item(state, 0, Kind::tensor, "tensor");
                tensor = PickledTensor(result_.tensors[static_cast<std::size_t>(data.number)]);
                return;
            }
        }
        fail_code("an object is given a state that no state dict has (BUILD)");
    }

    Bytes bytes_;
    const std::string& what_;
    const std::string& where_;
    std::size_t at_, opcode_at_ = 0, copied_ = 0;
    Pickle result_;
    std::vector<Ref> stack_;
    std::vector<std::size_t> marks_;
    std::unordered_map<std::uint32_t, Ref> memo_;
};

}  // namespace

const PickleNode* Pickle::find(const PickleNode& dict, std::string_view key) const {
    if (dict.kind != Kind::dict) return nullptr;
    for (std::size_t i = 0; i + 1 < dict.items.size(); i += 2) {
        if (at(dict.items[i]).kind == Kind::text && at(dict.items[i]).text == key)
            return &at(dict.items[i + 1]);
    }
    return nullptr;
}

Pickle read_pickle(Bytes bytes, std::size_t start, const std::string& what,
                   const std::string& where) {
    return Machine(bytes, start, what, where).run();
}

}  // namespace deeplab::io
